#include "src/checkpoint/gguf.h"

#include "fuzz/as_file.h"
#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const octet::fuzz::MemoryFile file(data, size);
    const octet::GgufFile gguf(file.path());
    if (gguf.has("general.architecture")) gguf.get_string("general.architecture");
  } catch (const octet::Error&) {
  }
  return 0;
}
