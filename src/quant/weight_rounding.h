// Weights to int8, per output row, symmetric (msModelSlim v0, section "weights" of
// docs/quantization.md).
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "src/machine/thread_team.h"

namespace octet {

struct RoundedWeight {
  std::vector<int8_t> q;     // [n, k], in [-127, 127]
  std::vector<float> scale;  // [n]
  std::vector<int64_t> sum;  // [n] row sums of q
};

// Round to nearest, ties to even, for |x| < 2^22; larger values stay larger than that. One addition
// and one subtraction, so that loops over it become vector code.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

// scale = max(max|w| / 127, eps) of one row w [k].
float row_scale(const float* w, size_t k);
// q = clamp(rne(w / scale), -127, 127).
inline float round_to_grid(float w, float scale) {
  return std::min(std::max(round_even(w / scale), -127.0f), 127.0f);
}

RoundedWeight round_weight(const std::vector<float>& w, size_t n, size_t k, ThreadTeam& team);

}  // namespace octet
