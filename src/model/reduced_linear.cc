#include "src/model/reduced_linear.h"

#include <cmath>
#include <span>
#include <utility>

namespace octet {

ReducedLinear::ReducedLinear(std::unique_ptr<Linear> part, Communicator& ranks, size_t rows,
                             ReduceBuffer& shared)
    : part_(std::move(part)), sums_(part_->integer_sums()), ranks_(ranks), shared_(shared) {
  if (sums_ != nullptr)
    shared_.sums.ensure(rows * outputs());
  else
    shared_.partial.ensure(rows * outputs());
  if (sums_ != nullptr && sums_->needs_row_maximum()) shared_.maximum.ensure(rows);
}

void ReducedLinear::stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) {
  if (sums_ == nullptr || !sums_->needs_row_maximum()) return part_->stage(w, in, buffer, slot);
  const auto [begin, end] = w.share(in.m);
  for (size_t r = begin; r < end; ++r) {
    float top = 0;
    for (size_t i = 0; i < inputs(); ++i) {
      const float v = std::fabs(in.x[r * in.ld + i]);
      top = v > top ? v : top;
    }
    shared_.maximum[r] = top;
  }
  w.barrier();
  if (w.id() == 0) ranks_.maximum({shared_.maximum.data(), in.m});
  w.barrier();
  sums_->stage_within(w, in, shared_.maximum.data(), buffer, slot);
}

void ReducedLinear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
                            size_t slot) {
  const size_t n = outputs(), m = in.m;
  if (sums_ != nullptr) {
    sums_->compute_sums(w, m, shared_.sums.data(), buffer, slot);
    w.barrier();
    if (w.id() == 0) ranks_.sum(std::span(shared_.sums.data(), m * n));
    w.barrier();
    sums_->finish(w, m, shared_.sums.data(), out, buffer, slot);
    return;
  }
  part_->compute(w, in, {shared_.partial.data(), n}, buffer, slot);
  w.barrier();
  if (w.id() == 0) ranks_.sum(std::span(shared_.partial.data(), m * n));
  w.barrier();
  const auto [begin, end] = w.share(m);
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < n; ++j) {
      float& y = out.y[r * out.ld + j];
      const float v = shared_.partial[r * n + j];
      y = out.accumulate ? y + v : v;
    }
}

}  // namespace octet
