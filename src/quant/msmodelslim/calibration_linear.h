// A linear that is quantized while it calibrates: every sample updates the range of its input and
// is then computed with the parameters of the range so far, so that later layers see the errors of
// earlier ones (docs/quantization.md, "Calibration").
#pragma once

#include <memory>
#include <vector>

#include "src/dist/communicator.h"
#include "src/model/int8_linear.h"
#include "src/model/linear.h"
#include "src/quant/int8/weight_rounding.h"
#include "src/quant/msmodelslim/observer.h"

namespace octet {

class CalibrationLinear final : public Linear {
 public:
  struct Member {
    const RoundedWeight* weight;
    const std::vector<float>* bias;  // [n] or empty
  };
  // `parts` read the same input [*, k] and share its range. `stored`: the dtype of the input scale.
  // The rows of a sample are computed by all ranks together.
  CalibrationLinear(const std::vector<Member>& parts, size_t k, std::unique_ptr<Observer> observer,
                    DType stored, ThreadTeam& team, Communicator& ranks);
  size_t outputs() const override { return weight_scale_.size(); }
  size_t inputs() const override { return inner_->inputs(); }
  uint64_t bytes() const override { return inner_->bytes(); }
  void stage(Worker&, const Rows&, StageBuffer&, size_t) override {}
  // The input is one whole sample.
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
               size_t slot) override;

  QuantParams params() const { return params_of(observer_->range(), stored_); }

 private:
  void update();  // to the range so far

  std::unique_ptr<Observer> observer_;
  DType stored_;
  std::vector<float> weight_scale_, bias_;
  QuantParams now_;            // of the current sample
  std::vector<float> levels_;  // its input [m, k] on the grid
  std::vector<int64_t> weight_sum_;
  W8A8Linear* int8_;
  std::unique_ptr<Linear> inner_;  // int8_, shared
};

}  // namespace octet
