// Weight rounding that minimizes the output error on given inputs (GPTQ, arXiv 2210.17323), in its
// form without an inverse: the nearest-plane rounding of Babai on the Cholesky factor.
#pragma once

#include <cstddef>
#include <vector>

#include "src/machine/thread_team.h"
#include "src/quant/weight_rounding.h"

namespace octet {

// H = sum_t weight_t x_t x_t^T over the inputs of a linear.
class Hessian {
 public:
  Hessian(size_t k, ThreadTeam& team);
  // x [m, ldx] with k channels; weight [m].
  void add(const float* x, size_t ldx, size_t m, const float* weight);
  size_t size() const { return k_; }
  // The matrix [k, k], all of it.
  const std::vector<float>& matrix();

 private:
  size_t k_;
  ThreadTeam& team_;
  std::vector<float> h_;  // upper triangle, blockwise
  bool mirrored_ = false;
};

// The order and the factor with which rows are rounded: channels by falling diagonal of H, and
// B [k, k] upper, B[i][j] = A[i][j] / A[j][j] with H + damping = A A^T in that order.
struct RoundingPlan {
  std::vector<size_t> order;  // [k] position -> channel
  std::vector<float> factor;  // [k, k], unit diagonal
};
// `damping`: share of the mean diagonal that is added to it.
RoundingPlan plan_rounding(Hessian& hessian, double damping, ThreadTeam& team);

// q = grid nearest to w [n, k] in the norm of H, row by row, with the symmetric row_grid().
RoundedWeight round_weight_gptq(const std::vector<float>& w, size_t n, size_t k,
                                const RoundingPlan& plan, ThreadTeam& team);

}  // namespace octet
