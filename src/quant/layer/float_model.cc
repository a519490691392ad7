#include "src/quant/layer/float_model.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/model/weights.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layer/exact.h"

namespace octet {
namespace {

std::vector<float> rows_of(const TensorView& table, size_t columns, size_t first, size_t count) {
  const TensorView part = table.part(first * columns, count * columns);
  part.expect_finite();
  std::vector<float> rows(count * columns);
  part.to_floats(rows.data());
  part.release();
  return rows;
}

}  // namespace

FloatModel::FloatModel(const ModelFolder& folder, const RotationOptions& options, ThreadTeam& team)
    : folder_(folder),
      team_(team),
      config_(folder.config()),
      stored_(as_size(config_.layers)),
      final_norm_(load_final_norm(folder)) {
  const uint64_t vocab = static_cast<uint64_t>(config_.vocab_size);
  const size_t hidden = as_size(config_.hidden_size);
  folder.tensors().get(kEmbeddingWeight).expect_shape({vocab, hidden});
  folder.head_weight().expect_shape({vocab, hidden});
  for (const TensorView* t : folder.tensors().all())
    if (const auto layer = layer_of(t->name); layer && as_size(*layer) < stored_.size())
      stored_[as_size(*layer)].push_back(t);
  if (options.residual) {
    residual_.emplace(hidden, *options.residual);
    config_.tie_word_embeddings = false;
  }
  if (options.values) values_.emplace(as_size(config_.head_dim), *options.values);
}

FloatLayer FloatModel::layer(int64_t layer) const {
  FloatLayer l = load_float_layer(folder_, layer, team_);
  if (const size_t next = as_size(layer) + 1; next < stored_.size())
    for (const TensorView* t : stored_[next]) t->will_need();
  if (residual_) {
    for (const PartRow& part : part_rows())
      if (part.after_norm()) fuse_norm(part.part, config_, l);
    rotate_residual(*residual_, l, team_);
  }
  if (values_) rotate_values(*values_, config_, l, team_);
  return l;
}

uint64_t FloatModel::layer_bytes(int64_t layer) const {
  uint64_t bytes = 0;
  for (const TensorView* t : stored_[as_size(layer)]) bytes += t->data.size();
  return bytes;
}

std::vector<float> FloatModel::embedding(size_t first, size_t count) const {
  std::vector<float> rows =
      rows_of(folder_.tensors().get(kEmbeddingWeight), as_size(config_.hidden_size), first, count);
  if (residual_) residual_->apply_rows(rows.data(), count, team_);
  return rows;
}

std::vector<float> FloatModel::embed(const std::vector<int32_t>& ids, DType stored) const {
  const size_t hidden = as_size(config_.hidden_size);
  const TensorView& table = folder_.tensors().get(kEmbeddingWeight);
  std::vector<float> x;
  x.reserve(ids.size() * hidden);
  for (int32_t id : ids) {
    const std::vector<float> row = rows_of(table, hidden, as_size(id), 1);
    x.insert(x.end(), row.begin(), row.end());
  }
  if (residual_) residual_->apply_rows(x.data(), ids.size(), team_);
  round_all(x, stored, kEmbeddingWeight);
  return x;
}

FloatWeight FloatModel::head() const {
  FloatWeight w;
  w.shape = {static_cast<uint64_t>(config_.vocab_size), as_size(config_.hidden_size), false};
  w.w = head(0, w.shape.n);
  return w;
}

std::vector<float> FloatModel::head(size_t first, size_t count) const {
  const size_t hidden = as_size(config_.hidden_size);
  std::vector<float> rows = rows_of(folder_.head_weight(), hidden, first, count);
  if (!residual_) return rows;
  for (size_t r = 0; r < count; ++r)
    for (size_t i = 0; i < hidden; ++i) rows[r * hidden + i] *= final_norm_.weight[i];
  residual_->apply_rows(rows.data(), count, team_);
  return rows;
}

Norm FloatModel::final_norm() const {
  Norm n = final_norm_;
  if (residual_) std::fill(n.weight.begin(), n.weight.end(), 1.0f);
  return n;
}

}  // namespace octet
