#include "src/quant/int8/quant_params.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/quant/int8/encode.h"

namespace octet {

Range widened(Range range, std::span<const float> x) {
  // Side by side: an extreme waits for the one before it.
  constexpr size_t kLanes = 16;
  std::array<float, kLanes> low, high;
  low.fill(range.min);
  high.fill(range.max);
  size_t i = 0;
  for (; i + kLanes <= x.size(); i += kLanes)
    for (size_t l = 0; l < kLanes; ++l) {
      low[l] = std::min(low[l], x[i + l]);
      high[l] = std::max(high[l], x[i + l]);
    }
  for (; i < x.size(); ++i) {
    low[0] = std::min(low[0], x[i]);
    high[0] = std::max(high[0], x[i]);
  }
  return {*std::min_element(low.begin(), low.end()), *std::max_element(high.begin(), high.end())};
}

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
