#include "src/model/head.h"

#include "src/base/checked.h"
#include "src/model/weights.h"

namespace octet {

Head::Head(const ModelFolder& f, const Shard& shard, HeadMode mode, ThreadTeam& team) {
  if (is_quantized(f.scheme(kHead))) {
    linear_ = load_quantized_head(f, shard, team);
    return;
  }
  const LinearShape shape = head_shape(f.config());
  const TensorView& whole = f.head_weight();
  whole.expect_shape({shape.n, shape.k});
  const TensorView own = whole.part(shard.vocab.begin * shape.k, shard.vocab.size() * shape.k);
  auto linear =
      std::make_unique<FloatLinear>(own.data.data(), float_type(own.dtype), shard.vocab.size(),
                                    shape.k, std::vector<float>(), team);
  float_ = linear.get();
  linear_ = std::move(linear);
  has_embedding_ = &whole == f.tensors().find(kEmbeddingWeight);
  if (mode == HeadMode::kScreened) {
    const auto row = [&](size_t r, void* w) {
      own.part(r * shape.k, shape.k).to_floats(static_cast<float*>(w));
    };
    screen_ = std::make_unique<HeadScreen>(row, shard.vocab.size(), shape.k, team);
    if (!screen_->usable()) screen_.reset();
  }
  own.release();
}

uint64_t Head::bytes() const { return screen_ != nullptr ? screen_->bytes() : linear_->bytes(); }

void Head::begin_step(const std::vector<bool>& largest, size_t rows) {
  screened_.clear();
  if (screen_ == nullptr || largest.empty()) return;
  OCTET_CHECK(largest.size() == rows);
  screened_ = largest;
  screen_->make_room(rows);
}

void Head::stage(Worker& w, const Rows& in, StageBuffer& buffer) {
  if (w.id() == 0) in_ = in;
  linear_->stage(w, in, buffer, 0);
  if (screened_.empty()) return;
  const auto [begin, end] = w.share(in.m);
  for (size_t r = begin; r < end; ++r)
    if (screened_[r]) screen_->stage(r, in.x + r * in.ld, buffer);
}

void Head::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer) {
  if (screened_.empty()) {
    if (in.m > 0) linear_->compute(w, in, out, buffer, 0);
    return;
  }
  for (size_t begin = 0, end; begin < in.m; begin = end) {
    const bool bounds = is_screened(begin);
    for (end = begin + 1; end < in.m && is_screened(end) == bounds;) ++end;
    if (bounds)
      screen_->bound(w, begin, end, out, buffer);
    else
      linear_->compute(w, {in.x + begin * in.ld, in.ld, end - begin},
                       {out.y + begin * out.ld, out.ld}, buffer, 0);
  }
}

std::optional<ExactLogits> Head::screened(size_t row) const {
  if (!is_screened(row)) return std::nullopt;
  return ExactLogits(*float_, in_.x + row * in_.ld);
}

}  // namespace octet
