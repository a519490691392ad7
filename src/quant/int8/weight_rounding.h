// Weights to int8, per output row (msModelSlim v0, section "Weights" of docs/quantization.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/base/round.h"
#include "src/machine/thread_team.h"

namespace octet {

// w is about (q - offset) * scale.
struct RoundedWeight {
  std::vector<int8_t> q;      // [n, k], in [-127, 127], or in [-128, 127] when asymmetric
  std::vector<float> scale;   // [n]
  std::vector<float> offset;  // [n], integers; zeros when symmetric
  std::vector<int64_t> sum;   // [n] row sums of q
};

// The grid of one row: a level q stands for (q - offset) * scale.
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

// w [n, k], finite, every row by its own grid. Scales and offsets are float32; the file may hold
// them in fewer bits (stored_dtype).
RoundedWeight round_weight(const std::vector<float>& w, size_t n, size_t k, bool asymmetric,
                           ThreadTeam& team);

}  // namespace octet
