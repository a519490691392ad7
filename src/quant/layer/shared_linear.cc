#include "src/quant/layer/shared_linear.h"

#include <algorithm>
#include <utility>

namespace octet {
namespace {

// Rows [begin, end) of all.
Rows part(const Rows& in, size_t begin, size_t end) {
  return {in.x + begin * in.ld, in.ld, end - begin};
}

}  // namespace

void SharedLinear::stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) {
  const auto [begin, end] = ranks_.share(in.m);
  w.barrier();  // other workers than those that stage a row have made it
  if (begin < end) linear_->stage(w, part(in, begin, end), buffer, slot);
}

void SharedLinear::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
                           size_t slot) {
  const size_t n = outputs(), m = in.m;
  const auto [begin, end] = ranks_.share(m);
  if (begin < end) {
    const Output own = {out.y + begin * out.ld, out.ld, out.accumulate};
    linear_->compute(w, part(in, begin, end), own, buffer, slot);
  }
  w.barrier();
  if (w.id() == 0) {
    if (out.ld == n) {
      ranks_.collect(out.y, m, n);
    } else {  // columns of something wider
      dense_.resize(m * n);
      for (size_t r = begin; r < end; ++r)
        std::copy_n(out.y + r * out.ld, n, dense_.data() + r * n);
      ranks_.collect(dense_.data(), m, n);
      for (size_t r = 0; r < m; ++r) std::copy_n(dense_.data() + r * n, n, out.y + r * out.ld);
    }
  }
  w.barrier();
}

std::unique_ptr<Linear> shared(std::unique_ptr<Linear> linear, Communicator& ranks) {
  if (ranks.size() == 1) return linear;
  return std::make_unique<SharedLinear>(std::move(linear), ranks);
}

}  // namespace octet
