#include "src/quant/layer/shared_linear.h"

#include <algorithm>
#include <utility>

namespace octet {

void SharedLinear::stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
                         size_t slot) {
  const auto [begin, end] = ranks_.share(m);
  w.barrier();  // other workers than those that stage a row have made it
  if (begin < end) linear_->stage(w, x + begin * ldx, ldx, end - begin, buffer, slot);
}

void SharedLinear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                           bool accumulate, StageBuffer& buffer, size_t slot) {
  const size_t n = outputs();
  const auto [begin, end] = ranks_.share(m);
  if (begin < end)
    linear_->compute(w, x + begin * ldx, ldx, end - begin, y + begin * ldy, ldy, accumulate, buffer,
                     slot);
  w.barrier();
  if (w.id() == 0) {
    if (ldy == n) {
      ranks_.collect(y, m, n);
    } else {  // columns of something wider
      dense_.resize(m * n);
      for (size_t r = begin; r < end; ++r) std::copy_n(y + r * ldy, n, dense_.data() + r * n);
      ranks_.collect(dense_.data(), m, n);
      for (size_t r = 0; r < m; ++r) std::copy_n(dense_.data() + r * n, n, y + r * ldy);
    }
  }
  w.barrier();
}

std::unique_ptr<Linear> shared(std::unique_ptr<Linear> linear, Communicator& ranks) {
  if (ranks.size() == 1) return linear;
  return std::make_unique<SharedLinear>(std::move(linear), ranks);
}

}  // namespace octet
