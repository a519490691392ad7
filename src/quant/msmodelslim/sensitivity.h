// How hard a linear's input is to quantize with one range: the score of msModelSlim's layer choice.
#pragma once

#include <cstddef>
#include <optional>

namespace octet {

class Sensitivity {
 public:
  // `as_msmodelslim`: the spread is around the sum of each channel's extremes, not half of it.
  explicit Sensitivity(bool as_msmodelslim) : shift_(as_msmodelslim ? 1.0f : 0.5f) {}
  // One sample's input x [m, ldx] with k channels, each divided by scale[i] (nullptr: by one).
  void observe(const float* x, size_t ldx, size_t m, size_t k, const float* scale);
  // max(|max|, |min|) / std, with std the largest over samples of the deviation of all elements
  // from the middle of their channel's range.
  double score() const;

 private:
  float shift_;
  float max_ = 0, min_ = 0;
  bool any_ = false;
  double std_ = 0;
};

}  // namespace octet
