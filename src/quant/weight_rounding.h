// Weights to int8, per output row, symmetric (msModelSlim v0, section "weights" of
// docs/quantization.md).
#pragma once

#include <cstdint>
#include <vector>

#include "src/machine/thread_team.h"

namespace octet {

struct RoundedWeight {
  std::vector<int8_t> q;       // [n, k], in [-127, 127]
  std::vector<float> scale;    // [n]
  std::vector<int64_t> sum;    // [n] row sums of q
};

// scale = max(max|w| / 127, eps) of one row w [k].
float row_scale(const float* w, size_t k);
// q = clamp(rne(w / scale), -127, 127).
float round_to_grid(float w, float scale);

RoundedWeight round_weight(const std::vector<float>& w, size_t n, size_t k, ThreadTeam& team);

}  // namespace octet
