// Weight rounding that minimizes the output error on given inputs (GPTQ, arXiv 2210.17323), in its
// form without an inverse: the nearest-plane rounding of Babai on the Cholesky factor.
#pragma once

#include <cstddef>
#include <vector>

#include "src/dist/communicator.h"
#include "src/machine/thread_team.h"
#include "src/quant/int8/weight_rounding.h"

namespace octet {

// Inputs of a linear, and how much an error at each token counts.
struct WeightedRows {
  const float* x;  // [m, k]
  size_t k, m;
  const float* weight;  // [m]
};

// The order and the factor with which rows are rounded, from H = sum_t weight_t x_t x_t^T: channels
// by falling diagonal, and B [k, k], B[i][j] = A[i][j] / A[j][j] for i < j, where H + damping =
// A A^T with A upper, in that order. What is not above B's diagonal means nothing.
struct RoundingPlan {
  std::vector<size_t> order;  // [k] position -> channel
  std::vector<float> factor;  // [k, k]
};
// `damping`: share of the mean diagonal that is added to it, more where H is not positive definite
// with that. Holds k^2 floats, and 512 tokens three times. All ranks must have the same inputs;
// they share the work, and get the same bits as one.
RoundingPlan plan_rounding(const WeightedRows& in, double damping, ThreadTeam& team,
                           Communicator& ranks);

// q = grid nearest to w [n, k] in the norm of H, row by row, with the symmetric row_grid(). Shared
// in the same way.
RoundedWeight round_weight_gptq(const std::vector<float>& w, size_t n, size_t k,
                                const RoundingPlan& plan, ThreadTeam& team, Communicator& ranks);

}  // namespace octet
