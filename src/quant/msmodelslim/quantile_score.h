// How hard an input is to quantize, by its quartiles: the score of --disable_threshold.
#pragma once

#include <cstddef>
#include <vector>

namespace octet {

// Every hundredth value of each batch's sorted input, from the 51st on, gathered over batches (all
// values of a batch that has fewer than 100).
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
