// The index of a model in several files, one of which is there, and generation_config.json.
#include "fuzz/in_folder.h"
#include "src/base/error.h"
#include "src/checkpoint/model_config.h"
#include "src/checkpoint/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const octet::fuzz::Folder folder;
  static const bool ready = [] {
    std::filesystem::copy_file(OCTET_SEEDS "/two.safetensors", folder / "model.safetensors");
    return true;
  }();
  static_cast<void>(ready);
  folder.write("model.safetensors.index.json", data, size);
  folder.write("generation_config.json", data, size);
  try {
    const octet::TensorStore store(folder.path());
    store.total_bytes();
  } catch (const octet::Error&) {
  }
  try {
    octet::GenerationConfig::load(folder.path());
  } catch (const octet::Error&) {
  }
  return 0;
}
