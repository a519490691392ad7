// A GGUF file to a checkpoint: metadata, tokenizer and tensors, whose values, behind the input, are
// zeros.
#include "src/text/gguf_convert.h"

#include <string>

#include "fuzz/in_folder.h"
#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const octet::fuzz::Folder folder;
  std::string whole(reinterpret_cast<const char*>(data), size);
  whole.append(size_t{1} << 16, '\0');
  const auto file =
      folder.write("model.gguf", reinterpret_cast<const uint8_t*>(whole.data()), whole.size());
  try {
    octet::text::convert_gguf(file, folder / "out", {.overwrite = true}, {});
  } catch (const octet::Error&) {
  }
  std::filesystem::remove_all(folder / "out");
  return 0;
}
