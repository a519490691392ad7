// Upper bounds of a float head's logits from a small int8 copy of it, so that the largest logits
// are found without reading every weight in 16 bits.
//
// Rows w of the weights and the input x are rotated, which leaves products as they are and spreads
// outliers, and become int8: w = s q + r, x = t p + e. With |.| the Euclidean norm,
//     |w x - s t (q p)| <= |x| |r| + |e| |s q|          (Cauchy and Schwarz)
// and what floats round, in the exact logit as in the estimate, is within c |w| |x|. All of it is
// known, so estimate + bound is at least the logit as the head computes it (docs/kernels.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/model/int8_linear.h"
#include "src/model/weight_source.h"

namespace octet {

class HeadScreen {
 public:
  // Of weights [n, k] in float32, without bias.
  HeadScreen(const WeightSource& source, size_t n, size_t k, ThreadTeam& team);
  // Whether the weights have bounds at all: they are finite and not huge.
  bool usable() const;
  uint64_t bytes() const { return codes_.bytes() + 2 * codes_.outputs() * sizeof(float); }

  // Before the rows of a step are staged.
  void make_room(size_t rows);
  // Prepares row `row` of the inputs, x [k].
  void stage(size_t row, const float* x, StageBuffer& buffer);
  // Whether bound() may be called for a row that is staged: its logits are finite and not huge.
  bool bounded(size_t row) const;
  // SPMD, a barrier after stage(): out.y [row, n] >= logits for rows [begin, end).
  void bound(Worker& w, size_t begin, size_t end, const Output& out, StageBuffer& buffer);

 private:
  // What multiplies |x| and |e| in the bound of an output.
  struct Bounds {
    explicit Bounds(size_t n) : by_norm(n), by_error(n) {}
    Buffer<float> by_norm, by_error;
  };
  struct InputRow {
    float norm, error;  // |x|, |e|
  };
  DynamicLinear make_codes(const WeightSource& source, size_t n, size_t k, ThreadTeam& team);

  size_t block_;  // values that are rotated with each other
  Bounds bounds_;
  DynamicLinear codes_;
  float largest_ = 0;      // |w| of any row; infinite where one is not finite
  Buffer<float> rotated_;  // [rows, k]
  std::vector<InputRow> rows_;
};

}  // namespace octet
