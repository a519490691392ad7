// Observers: from the inputs that a linear sees during calibration to the range of its static
// per-tensor quantization. Formulas: docs/quantization.md (msModelSlim v0, act_method 1, 2, 3).
#pragma once

#include <memory>

#include "src/model/linear.h"
#include "src/quant/int8/quant_params.h"

namespace octet {

class Observer {
 public:
  virtual ~Observer() = default;
  // SPMD, and the caller puts a barrier after it. The whole input of one calibration sample: all
  // tokens, of which the first k columns. The range is the same for any number of workers.
  virtual void observe(Worker& w, const Rows& x, size_t k) = 0;
  // The range after the samples seen so far.
  virtual Range range() const = 0;
};

// `workers`: of the team that will observe.
// act_method 1: the arithmetic means, over samples, of each sample's minimum and maximum.
std::unique_ptr<Observer> make_minmax_observer(size_t workers);
// The extremes of all samples (msModelSlim v1).
std::unique_ptr<Observer> make_extremes_observer(size_t workers);
// The range of `inner` made symmetric, so that params_of gives scale max|x| / 127 and offset 0.
std::unique_ptr<Observer> make_symmetric(std::unique_ptr<Observer> inner);
// act_method 2: a histogram of 2048 bins, merged sample by sample, and a search for the range with
// the least squared error, in double. `as_msmodelslim`: the tool's ranges, bit for bit on equal
// inputs: in float32 with torch's order of sums, the outer edges of a sample's bins cut to
// integers, constant samples before the first other one forgotten.
std::unique_ptr<Observer> make_histogram_observer(size_t workers, bool as_msmodelslim);

}  // namespace octet
