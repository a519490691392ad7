#include "src/quant/settings/practice.h"

#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  octet::ModelConfig config;
  config.layers = 2;
  config.hidden_size = config.intermediate_size = config.vocab_size = 64;
  config.heads = config.kv_heads = 2;
  config.head_dim = 32;
  try {
    octet::parse_practice(std::string(reinterpret_cast<const char*>(data), size), "fuzz", config);
  } catch (const octet::Error&) {
  }
  return 0;
}
