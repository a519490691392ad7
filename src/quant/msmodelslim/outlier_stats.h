// What outlier suppression needs to know of the inputs of a group of linears.
#pragma once

#include <cstddef>
#include <vector>

#include "src/model/linear.h"

namespace octet {

// Which inputs are kept for a search, besides the statistics of all.
enum class KeepInputs { kNone, kFirstBatch, kSpread, kAll };

// Gathered batch by batch; every row (token) counts equally. "Statistics" in docs/quantization.md.
class OutlierStats {
 public:
  // kSpread keeps about this many rows, evenly spaced, over all batches.
  static constexpr size_t kSpreadRows = 256;

  // `batches`: how many there will be. `deviation`: gather shifted_highest and deviation, too.
  OutlierStats(size_t k, size_t batches, KeepInputs keep, bool deviation);
  void observe(Worker& w, const Rows& x);  // SPMD. x [m, k]

  size_t channels() const { return lowest_.size(); }
  const std::vector<float>& highest() const { return highest_; }  // [k] max x
  const std::vector<float>& lowest() const { return lowest_; }    // [k] min x
  std::vector<float> amplitude() const;                           // [k] max |x|
  std::vector<float> mean_amplitude() const;                      // [k] mean |x|
  std::vector<float> shift() const;                               // [k] (max + min) / 2
  // With the shift as it stood after each batch: the largest x - shift of a channel [k], and the
  // largest standard deviation of all elements of x - shift in one batch.
  const std::vector<float>& shifted_highest() const { return shifted_highest_; }
  float deviation() const { return deviation_; }
  const std::vector<float>& inputs() const { return inputs_; }  // kept rows [rows, k]

 private:
  void observe_shifted(const Rows& x);

  size_t batches_, seen_ = 0, rows_ = 0;
  KeepInputs keep_;
  bool with_deviation_;
  std::vector<float> highest_, lowest_, shifted_highest_, inputs_;
  std::vector<double> sum_;  // of |x|
  float deviation_ = 0;
};

}  // namespace octet
