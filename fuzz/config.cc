#include "src/base/error.h"
#include "src/checkpoint/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    octet::ModelConfig::parse(octet::parse_ordered_json(text, "fuzz"), "fuzz");
  } catch (const octet::Error&) {
  }
  return 0;
}
