#include "src/checkpoint/safetensors.h"

#include "fuzz/as_file.h"
#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const octet::fuzz::MemoryFile file(data, size);
    const octet::SafetensorsFile tensors(file.path());
    for (const auto& t : tensors.tensors())
      if (octet::is_float(t.dtype)) t.floats();
  } catch (const octet::Error&) {
  }
  return 0;
}
