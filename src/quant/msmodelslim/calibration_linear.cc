#include "src/quant/msmodelslim/calibration_linear.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/int8_grid.h"
#include "src/quant/layer/shared_linear.h"

namespace octet {

CalibrationLinear::CalibrationLinear(const std::vector<Member>& parts, size_t k,
                                     std::unique_ptr<Observer> observer, DType stored,
                                     ThreadTeam& team, Communicator& ranks)
    : observer_(std::move(observer)), stored_(stored) {
  std::vector<int8_t> weights;
  for (const Member& p : parts) {
    weights.insert(weights.end(), p.weight->q.begin(), p.weight->q.end());
    weight_scale_.insert(weight_scale_.end(), p.weight->scale.begin(), p.weight->scale.end());
    weight_sum_.insert(weight_sum_.end(), p.weight->sum.begin(), p.weight->sum.end());
    bias_.insert(bias_.end(), p.bias->begin(), p.bias->end());
  }
  const size_t n = weight_scale_.size();
  OCTET_CHECK(bias_.empty() || bias_.size() == n);
  const W8A8Params none{1, 0, std::vector<int32_t>(n, 0), weight_scale_};
  auto int8 = std::make_unique<W8A8Linear>(weights.data(), n, k, none, team);
  int8_ = int8.get();
  inner_ = shared(std::move(int8), ranks);
}

void CalibrationLinear::update() {
  const size_t n = outputs();
  now_ = params();
  W8A8Params p{1, now_.offset, std::vector<int32_t>(n), std::vector<float>(n)};
  for (size_t j = 0; j < n; ++j) {
    p.quant_bias[j] = static_cast<int32_t>(-weight_sum_[j] * static_cast<int64_t>(now_.offset));
    p.deq_scale[j] = now_.scale * weight_scale_[j];
  }
  int8_->set_params(p);
}

void CalibrationLinear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
                                size_t slot) {
  const size_t k = inputs();
  observer_->observe(w, in, k);
  w.barrier();
  if (w.id() == 0) {
    update();
    levels_.resize(in.m * k);
  }
  w.barrier();
  // The grid levels by the tool's own formula, sat8(rne(x / scale + offset)) - offset, which the
  // inner linear then takes as they are (its scale is one).
  const Int8Grid<GridRule{.offset_is_rounded = true}> grid(now_.scale, now_.offset);
  const auto [first, last] = w.share(in.m);
  for (size_t r = first; r < last; ++r)
    for (size_t i = 0; i < k; ++i) levels_[r * k + i] = grid.level(in.x[r * in.ld + i]);
  const Rows levels = {levels_.data(), k, in.m};
  inner_->stage(w, levels, buffer, slot);
  w.barrier();
  inner_->compute(w, levels, out, buffer, slot);
  if (bias_.empty()) return;
  w.barrier();
  for (size_t r = first; r < last; ++r)
    for (size_t j = 0; j < bias_.size(); ++j) out.y[r * out.ld + j] += bias_[j];
}

}  // namespace octet
