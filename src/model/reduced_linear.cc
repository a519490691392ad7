#include "src/model/reduced_linear.h"

#include <algorithm>
#include <cmath>

namespace octet {

ReducedLinear::ReducedLinear(std::unique_ptr<Linear> part, Communicator& ranks, size_t rows,
                             ReduceBuffer& shared)
    : part_(std::move(part)),
      int8_(dynamic_cast<Int8Linear*>(part_.get())),
      ranks_(ranks),
      shared_(shared) {
  if (int8_ != nullptr)
    shared_.sums.ensure(rows * outputs());
  else
    shared_.partial.ensure(rows * outputs());
  if (int8_ != nullptr && int8_->needs_row_maximum()) shared_.maximum.ensure(rows);
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
    shared_.maximum[r] = top;
  }
  w.barrier();
  if (w.id() == 0) ranks_.maximum({shared_.maximum.data(), m});
  w.barrier();
  int8_->stage_rows_within(x, ldx, begin, end, shared_.maximum.data(), buffer, slot);
}

void ReducedLinear::compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                            bool accumulate, StageBuffer& buffer, size_t slot) {
  const size_t n = outputs();
  const auto [begin, end] = w.share(m);
  if (int8_ != nullptr) {
    const Product product = {y, ldy, accumulate, shared_.sums.data()};
    int8_->compute_product(w, m, product, buffer, slot);
    w.barrier();
    if (w.id() == 0) ranks_.sum(std::span(shared_.sums.data(), m * n));
    w.barrier();
    int8_->finish(product, begin, end, buffer, slot);
    return;
  }
  part_->compute(w, x, ldx, m, shared_.partial.data(), n, false, buffer, slot);
  w.barrier();
  if (w.id() == 0) ranks_.sum(std::span(shared_.partial.data(), m * n));
  w.barrier();
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < n; ++j) {
      float& out = y[r * ldy + j];
      const float v = shared_.partial[r * n + j];
      out = accumulate ? out + v : v;
    }
}

}  // namespace octet
