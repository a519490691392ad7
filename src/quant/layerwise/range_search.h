// The static range of a linear's input.
#pragma once

#include <cstddef>

#include "src/checkpoint/dtype.h"
#include "src/machine/thread_team.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/settings/range_fit.h"

namespace octet {

// Tokens of neighbouring texts are one of so many folds, for cross-validation.
inline constexpr size_t kFolds = 4;

// Inputs of a linear: x [m, ldx] with k channels, a weight for every token, and the cost of a
// squared error in every channel (the sum of its squared weights).
struct RangeProblem {
  const float* x;
  size_t ldx, m, k;
  const float* token_weight;      // [m]
  const float* channel_weight;    // [k]
  size_t stride = 1;              // losses and quantiles are of every so many-th token
  const uint8_t* fold = nullptr;  // [m] below kFolds; only where a margin is to be found
};

// sum_t token_weight sum_i channel_weight (dequantized(x) - x)^2 over every `stride`-th token.
double range_loss(const RangeProblem& p, QuantParams params, ThreadTeam& team);

// The parameters, with a scale rounded to `stored`.
QuantParams find_range(const RangeProblem& p, const RangeFit& fit, DType stored, ThreadTeam& team);

}  // namespace octet
