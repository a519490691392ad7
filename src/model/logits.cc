#include "src/model/logits.h"

#include <bit>
#include <cstdint>

namespace octet {

bool all_finite(std::span<const float> values) {
  constexpr uint32_t kExponent = 0x7f800000;  // all of its bits are set in NaN and infinity
  uint32_t broken = 0;
  for (float v : values) broken += (std::bit_cast<uint32_t>(v) & kExponent) == kExponent;
  return broken == 0;
}

Error broken_logits(const ModelFolder& folder) {
  const std::string path = folder.path().string();
  return Error("the model computes NaN or infinite logits")
      .file(path)
      .remedy("a weight is damaged, or a value overflows; octet check " + path + " looks for it");
}

}  // namespace octet
