#include <fstream>

#include "fuzz/as_file.h"
#include "src/base/error.h"
#include "src/checkpoint/compressed_tensors.h"
#include "src/checkpoint/safetensors_writer.h"

namespace {

constexpr const char* kWeight = "model.layers.0.self_attn.q_proj.weight";

// The bytes as quant_model_description.json of a folder, with one int8 weight, that goes away at
// the end.
class Folder {
 public:
  Folder() {
    if (::mkdtemp(path_) == nullptr) std::abort();
    octet::SafetensorsWriter writer(path(), {{kWeight, octet::DType::kI8, {1, 2}}},
                                    {"model", 0, false});
    writer.write(kWeight, std::vector<int8_t>{1, 2});
    writer.finish();
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::filesystem::path path() const { return path_; }
  void link(const std::filesystem::path& file) const {
    const auto name = path() / "quant_model_description.json";
    std::filesystem::remove(name);
    std::filesystem::create_symlink(file, name);
  }

 private:
  char path_[32] = "/tmp/octet_fuzz_XXXXXX";
};

void load(const std::filesystem::path& folder, const octet::ordered_json& config) {
  try {
    const auto description = octet::QuantDescription::load(folder, config);
    if (!description) return;
    for (const auto& [tensor, type] : description->types) {
      octet::parse_scheme(type);
      if (description->find(tensor) == nullptr) std::abort();
    }
  } catch (const octet::Error&) {
  }
}

// As the dictionary of compressed-tensors.
void describe(const octet::TensorStore& tensors, const octet::ordered_json& dictionary) {
  octet::ModelConfig config;
  config.layers = 1;
  config.raw = {{"quantization_config", dictionary}};
  try {
    const auto description = octet::describe_compressed_tensors(config, tensors, "fuzz");
    if (!octet::parse_scheme(*description.find(kWeight))) std::abort();
  } catch (const octet::Error&) {
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  static const octet::TensorStore tensors(folder.path());
  const octet::fuzz::MemoryFile file(data, size);
  folder.link(file.path());
  load(folder.path(), octet::ordered_json::object());
  try {  // the same in config.json
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const octet::ordered_json dictionary = octet::parse_ordered_json(text, "fuzz");
    load(folder.path(), {{"quantization_config", dictionary}});
    describe(tensors, dictionary);
  } catch (const octet::Error&) {
  }
  return 0;
}
