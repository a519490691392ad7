// Weights to int8, per output row (msModelSlim v0, section "Weights" of docs/quantization.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/machine/thread_team.h"

namespace octet {

// w is about (q - offset) * scale.
struct RoundedWeight {
  std::vector<int8_t> q;      // [n, k], in [-127, 127], or in [-128, 127] when asymmetric
  std::vector<float> scale;   // [n]
  std::vector<float> offset;  // [n], integers; zeros when symmetric
  std::vector<int64_t> sum;   // [n] row sums of q
};

// Round to nearest, ties to even, for |x| < 2^22; larger values stay larger than that. One addition
// and one subtraction, so that loops over it become vector code.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

// The grid of one row: scale and offset.
struct RowGrid {
  float scale, offset;
  float low;  // the smallest level
};
// Symmetric: scale = max(max|w| / 127, eps), offset 0, levels -127 to 127. Asymmetric:
// scale = max((max - min) / 255, eps) and offset = rne(-min / scale) - 128 with min <= 0 <= max,
// levels -128 to 127. w [k].
RowGrid row_grid(const float* w, size_t k, bool asymmetric);
// The level of w: clamp(rne(w / scale + offset)).
inline float round_to_grid(float w, const RowGrid& g) {
  return std::min(std::max(round_even(w / g.scale + g.offset), g.low), 127.0f);
}

RoundedWeight round_weight(const std::vector<float>& w, size_t n, size_t k, bool asymmetric,
                           ThreadTeam& team);

}  // namespace octet
