// Observers: from the inputs that a linear sees during calibration to the range of its static
// per-tensor quantization. Formulas: docs/quantization.md (msModelSlim v0, act_method 1, 2, 3).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "src/quant/int8/quant_params.h"

namespace octet {

class Observer {
 public:
  virtual ~Observer() = default;
  // The whole input of one calibration sample (all tokens, all channels).
  virtual void observe(std::span<const float> x) = 0;
  // The range after the samples seen so far.
  virtual Range range() const = 0;
};

// act_method 1: the arithmetic means, over samples, of each sample's minimum and maximum.
std::unique_ptr<Observer> make_minmax_observer();
// The extremes of all samples (msModelSlim v1).
std::unique_ptr<Observer> make_extremes_observer();
// The range of `inner` made symmetric, so that params_of gives scale max|x| / 127 and offset 0.
std::unique_ptr<Observer> make_symmetric(std::unique_ptr<Observer> inner);
// act_method 2: a histogram of 2048 bins, merged sample by sample, and a search for the range with
// the least squared error, in double. `as_msmodelslim`: the tool's ranges, bit for bit on equal
// inputs: in float32 with torch's order of sums, the outer edges of a sample's bins cut to
// integers, constant samples before the first other one forgotten.
std::unique_ptr<Observer> make_histogram_observer(bool as_msmodelslim);

}  // namespace octet
