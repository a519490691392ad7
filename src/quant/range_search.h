// The range of a linear's input that costs its output least on given inputs.
#pragma once

#include <cstddef>
#include <vector>

#include "src/checkpoint/dtype.h"
#include "src/machine/thread_team.h"
#include "src/quant/observer.h"

namespace octet {

// Inputs of a linear: x [m, ldx] with k channels, a weight for every token, and the cost of a
// squared error in every channel (the sum of its squared weights).
struct RangeProblem {
  const float* x;
  size_t ldx, m, k;
  const float* token_weight;    // [m]
  const float* channel_weight;  // [k]
};

// sum_t token_weight sum_i channel_weight (dequantized(x) - x)^2 over every `stride`-th token.
double range_loss(const RangeProblem& p, QuantParams params, size_t stride, ThreadTeam& team);

// The parameters (scale rounded to `stored`) that hold all inputs.
QuantParams full_range(const RangeProblem& p, DType stored, ThreadTeam& team);

// Those of least loss among the ranges that shrink the sides of [min, max] of the inputs.
QuantParams search_range(const RangeProblem& p, DType stored, size_t stride, ThreadTeam& team);

}  // namespace octet
