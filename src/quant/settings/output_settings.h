// What the result of a quantization is, whichever way it is made.
#pragma once

#include <cstdint>

#include "src/checkpoint/layout.h"
#include "src/quant/settings/recipe.h"

namespace octet {

struct OutputSettings {
  Layout layout = Layout::kOctet;
  bool quantize_kv_cache = false;  // "C8": static int8 keys and values
  KeepFloat keep_float;
  uint64_t part_bytes = 0;  // shard size; 0 = one file
};

}  // namespace octet
