#include "src/model/tap_linear.h"

namespace octet {

void TapLinear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& b, size_t slot) {
  if (input_) input_(w, in);
  if (!output_) return inner_->compute(w, in, out, b, slot);
  const size_t n = outputs();
  if (out.accumulate) {
    if (w.id() == 0) own_.resize(in.m * n);
    w.barrier();
  }
  const Output own = out.accumulate ? Output{own_.data(), n} : out;
  inner_->compute(w, in, own, b, slot);
  w.barrier();
  output_(w, {own.y, own.ld, in.m});
  if (!out.accumulate) return;
  const auto [begin, end] = w.share(in.m);
  for (size_t r = begin; r < end; ++r)
    for (size_t j = 0; j < n; ++j) out.y[r * out.ld + j] += own.y[r * n + j];
}

}  // namespace octet
