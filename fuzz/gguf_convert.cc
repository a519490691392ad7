// A GGUF file to a checkpoint: metadata, tokenizer and tensors.
#include "src/text/gguf_convert.h"

#include "fuzz/in_folder.h"
#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const octet::fuzz::Folder folder;
  const auto file = folder.write("model.gguf", data, size);
  try {
    octet::text::convert_gguf(file, folder / "out", {.overwrite = true}, {});
  } catch (const octet::Error&) {
  }
  std::filesystem::remove_all(folder / "out");
  return 0;
}
