#include "src/model/tap_linear.h"

namespace octet {

void TapLinear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                        bool accumulate, StageBuffer& b, size_t slot) {
  if (input_ && w.id() == 0) input_(x, ldx, m);
  if (!output_) return inner_->compute(w, x, ldx, m, y, ldy, accumulate, b, slot);
  const size_t n = outputs();
  if (accumulate) {
    if (w.id() == 0) own_.resize(m * n);
    w.barrier();
  }
  float* own = accumulate ? own_.data() : y;
  const size_t ld = accumulate ? n : ldy;
  inner_->compute(w, x, ldx, m, own, ld, false, b, slot);
  w.barrier();
  if (w.id() == 0) output_(own, ld, m);
  if (!accumulate) return;
  const auto [begin, end] = w.share(m);
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < n; ++j) y[r * ldy + j] += own[r * n + j];
}

}  // namespace octet
