#include "src/quant/exact.h"

#include <algorithm>

#include "src/base/error.h"

namespace octet {

void fuse_norm(Norm& norm, const std::vector<FloatWeight*>& targets) {
  OCTET_CHECK(norm.bias.empty());
  const size_t k = norm.weight.size();
  for (FloatWeight* t : targets)
    for (size_t j = 0; j < t->shape.n; ++j)
      for (size_t i = 0; i < k; ++i) t->w[j * k + i] *= norm.weight[i];
  std::fill(norm.weight.begin(), norm.weight.end(), 1.0f);
}

void rotate_residual(const Rotation& r, FloatLayer& layer, ThreadTeam& team) {
  for (LinearKind kind :
       {LinearKind::kQ, LinearKind::kK, LinearKind::kV, LinearKind::kGate, LinearKind::kUp})
    r.apply_rows(layer.at(kind).w.data(), layer.at(kind).shape.n, team);
  for (LinearKind kind : {LinearKind::kO, LinearKind::kDown}) {
    FloatWeight& w = layer.at(kind);
    r.apply_columns(w.w.data(), w.shape.k, team);
    if (!w.bias.empty()) r.apply(w.bias.data());
  }
}

void rotate_values(const Rotation& r, const ModelConfig& c, FloatLayer& layer, ThreadTeam& team) {
  const size_t hd = static_cast<size_t>(c.head_dim);
  OCTET_CHECK(r.size() == hd);
  FloatWeight& v = layer.at(LinearKind::kV);
  for (size_t row = 0; row < v.shape.n; row += hd) {
    r.apply_columns(v.w.data() + row * v.shape.k, v.shape.k, team);
    if (!v.bias.empty()) r.apply(v.bias.data() + row);
  }
  FloatWeight& o = layer.at(LinearKind::kO);
  r.apply_rows(o.w.data(), o.w.size() / hd, team);  // every head's part of every row
}

void scale_values(std::span<const float> s, const ModelConfig& c, FloatLayer& layer) {
  const size_t hd = static_cast<size_t>(c.head_dim);
  const size_t group = static_cast<size_t>(c.heads / c.kv_heads);
  FloatWeight& v = layer.at(LinearKind::kV);
  OCTET_CHECK(s.size() == v.shape.n);
  for (size_t row = 0; row < v.shape.n; ++row) {
    for (size_t i = 0; i < v.shape.k; ++i) v.w[row * v.shape.k + i] /= s[row];
    if (!v.bias.empty()) v.bias[row] /= s[row];
  }
  FloatWeight& o = layer.at(LinearKind::kO);
  for (size_t j = 0; j < o.shape.n; ++j)
    for (size_t i = 0; i < o.shape.k; ++i)
      o.w[j * o.shape.k + i] *= s[i / hd / group * hd + i % hd];
}

void scale_up(std::span<const float> s, FloatLayer& layer) {
  FloatWeight& up = layer.at(LinearKind::kUp);
  FloatWeight& down = layer.at(LinearKind::kDown);
  OCTET_CHECK(s.size() == up.shape.n && up.bias.empty());
  for (size_t row = 0; row < up.shape.n; ++row)
    for (size_t i = 0; i < up.shape.k; ++i) up.w[row * up.shape.k + i] /= s[row];
  for (size_t j = 0; j < down.shape.n; ++j)
    for (size_t i = 0; i < down.shape.k; ++i) down.w[j * down.shape.k + i] *= s[i];
}

void split_channels(const ChannelSplit& split, FloatLayer& layer) {
  const size_t n = split.source.size();
  const auto take_rows = [&](FloatWeight& w, bool scaled) {
    OCTET_CHECK(w.bias.empty());
    std::vector<float> rows(n * w.shape.k);
    for (size_t r = 0; r < n; ++r)
      for (size_t i = 0; i < w.shape.k; ++i)
        rows[r * w.shape.k + i] =
            w.w[split.source[r] * w.shape.k + i] * (scaled ? split.share[r] : 1.0f);
    w.w = std::move(rows);
    w.shape.n = n;
  };
  take_rows(layer.at(LinearKind::kGate), false);
  take_rows(layer.at(LinearKind::kUp), true);
  FloatWeight& down = layer.at(LinearKind::kDown);
  std::vector<float> columns(down.shape.n * n);
  for (size_t j = 0; j < down.shape.n; ++j)
    for (size_t i = 0; i < n; ++i) columns[j * n + i] = down.w[j * down.shape.k + split.source[i]];
  down.w = std::move(columns);
  down.shape.k = n;
}

}  // namespace octet
