// How hard a linear's input is to quantize with one range: the scores that choose which linears
// stay in float.
#pragma once

#include <cstddef>
#include <vector>

namespace octet {

// By the largest value over the deviation: the score of --disable_level.
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

// By its quartiles: the score of --disable_threshold. Of every hundredth value of each batch's
// sorted input, from the 51st on, gathered over batches (all values of a batch that has fewer than
// 100).
class QuantileScore {
 public:
  void observe(const float* x, size_t ldx, size_t m, size_t k);  // x [m, k]
  // (2 max |v| / 254) / (third quartile - first quartile) of the values v gathered; infinite when
  // the quartiles are equal and zero when all values are.
  double score() const;

 private:
  std::vector<float> values_;
};

}  // namespace octet
