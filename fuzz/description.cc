#include <fstream>

#include "fuzz/as_file.h"
#include "src/base/error.h"
#include "src/checkpoint/quant_description.h"

namespace {

// The bytes as quant_model_description.json of a folder that goes away at the end.
class Folder {
 public:
  Folder() {
    if (::mkdtemp(path_) == nullptr) std::abort();
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  const octet::fuzz::MemoryFile file(data, size);
  folder.link(file.path());
  load(folder.path(), octet::ordered_json::object());
  try {  // the same in config.json
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    load(folder.path(), {{"quantization_config", octet::parse_ordered_json(text, "fuzz")}});
  } catch (const octet::Error&) {
  }
  return 0;
}
