#include "src/model/reduced_linear.h"

#include <algorithm>
#include <cmath>

namespace octet {

ReducedLinear::ReducedLinear(std::unique_ptr<Linear> part, Communicator& ranks, size_t rows)
    : part_(std::move(part)), int8_(dynamic_cast<Int8Linear*>(part_.get())), ranks_(ranks) {
  if (int8_ != nullptr)
    sums_.ensure(rows * outputs());
  else
    partial_.ensure(rows * outputs());
  if (int8_ != nullptr && int8_->needs_row_maximum()) maximum_.ensure(rows);
}

void ReducedLinear::stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
                          size_t slot) {
  if (int8_ == nullptr || !int8_->needs_row_maximum())
    return part_->stage(w, x, ldx, m, buffer, slot);
  const auto [begin, end] = w.share(m);
  for (size_t r = begin; r < end; ++r) {
    float top = 0;
    for (size_t i = 0; i < inputs(); ++i) {
      const float v = std::fabs(x[r * ldx + i]);
      top = v > top ? v : top;
    }
    maximum_[r] = top;
  }
  w.barrier();
  if (w.id() == 0) ranks_.maximum({maximum_.data(), m});
  w.barrier();
  int8_->stage_rows_within(x, ldx, begin, end, maximum_.data(), buffer, slot);
}

void ReducedLinear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                            bool accumulate, StageBuffer& buffer, size_t slot) {
  const size_t n = outputs();
  const auto [begin, end] = w.share(m);
  if (int8_ != nullptr) {
    const Product product = {y, ldy, accumulate, sums_.data()};
    int8_->compute_product(w, m, product, buffer, slot);
    w.barrier();
    if (w.id() == 0) ranks_.sum(std::span(sums_.data(), m * n));
    w.barrier();
    int8_->finish(product, begin, end, buffer, slot);
    return;
  }
  part_->compute(w, x, ldx, m, partial_.data(), n, false, buffer, slot);
  w.barrier();
  if (w.id() == 0) ranks_.sum(std::span(partial_.data(), m * n));
  w.barrier();
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < n; ++j) {
      float& out = y[r * ldy + j];
      const float v = partial_[r * n + j];
      out = accumulate ? out + v : v;
    }
}

}  // namespace octet
