#include "src/quant/int8/quant_params.h"

#include <algorithm>
#include <cmath>

#include "src/quant/int8/encode.h"

namespace octet {

QuantParams params_of(Range r, DType stored) {
  r.min = std::min(r.min, 0.0f);
  r.max = std::max(r.max, 0.0f);
  QuantParams p;
  p.scale = std::max((r.max - r.min) / 255.0f, kMinQuantScale);
  if (stored != DType::kF32) p.scale = round_to(p.scale, stored);
  p.offset = std::clamp(std::nearbyint(-r.min / p.scale) - 128.0f, -128.0f, 127.0f);
  return p;
}

}  // namespace octet
