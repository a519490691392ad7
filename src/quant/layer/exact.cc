#include "src/quant/layer/exact.h"

#include <algorithm>

#include "src/base/error.h"

namespace octet {
namespace {

// The channel of the keys or values that channel i of the queries, or of o's input, goes with.
size_t kv_channel(size_t i, const ModelConfig& c) {
  const size_t hd = static_cast<size_t>(c.head_dim);
  return i / hd / static_cast<size_t>(c.heads / c.kv_heads) * hd + i % hd;
}

}  // namespace

std::vector<float> source_scale(const std::vector<float>& scale, size_t rows,
                                const ModelConfig& config) {
  if (scale.size() == rows || scale.empty()) return scale;
  const size_t width = static_cast<size_t>(config.head_dim), repeat = scale.size() / rows;
  std::vector<float> s(rows);
  for (size_t j = 0; j < rows; ++j) s[j] = scale[j / width * repeat * width + j % width];
  return s;
}

void fuse(const std::vector<float>& scale, LayerPart part, const ModelConfig& config,
          FloatLayer& layer) {
  const size_t k = scale.size();
  for (FloatWeight* t : layer.of(part))
    for (size_t j = 0; j < t->shape.n; ++j)
      for (size_t i = 0; i < k; ++i) t->w[j * k + i] *= scale[i];
  const PartRow& row = part_row(part);
  if (row.norm) {
    Norm& norm = layer.norms[*row.norm];
    for (size_t i = 0; i < k; ++i) norm.weight[i] /= scale[i];
    for (size_t i = 0; i < norm.bias.size(); ++i) norm.bias[i] /= scale[i];
    return;
  }
  FloatWeight& source = layer.at(*row.source);
  const std::vector<float> rows = source_scale(scale, source.shape.n, config);
  for (size_t j = 0; j < source.shape.n; ++j) {
    for (size_t i = 0; i < source.shape.k; ++i) source.w[j * source.shape.k + i] /= rows[j];
    if (!source.bias.empty()) source.bias[j] /= rows[j];
  }
}

void fuse_norm(LayerPart part, const ModelConfig& config, FloatLayer& layer) {
  Norm& norm = layer.norms[part_row(part).norm.value()];
  OCTET_CHECK(norm.bias.empty());
  const std::vector<float> scale = norm.weight;
  fuse(scale, part, config, layer);
  std::fill(norm.weight.begin(), norm.weight.end(), 1.0f);  // also where it was zero
}

void rotate_residual(const Rotation& r, FloatLayer& layer, ThreadTeam& team) {
  for (const LinearRow& row : linear_rows()) {
    FloatWeight& w = layer.at(row.kind);
    if (row.columns == Axis::kHidden) r.apply_rows(w.w.data(), w.shape.n, team);
    if (row.rows != Axis::kHidden) continue;
    r.apply_columns(w.w.data(), w.shape.k, team);
    if (!w.bias.empty()) r.apply(w.bias.data());
  }
}

void scale_keys(const std::vector<float>& scale, const ModelConfig& c, FloatLayer& layer) {
  OCTET_CHECK(scale.size() == layer.k().shape.n);
  Norm &of_queries = layer.norms[NormKind::kQuery], &of_keys = layer.norms[NormKind::kKey];
  if (!of_keys.weight.empty()) {
    // A norm of every head stands between the linears and the cache, and takes any scale of theirs
    // off again: it takes the scale itself, one for all heads.
    const size_t width = of_keys.weight.size();
    for (size_t i = 0; i < scale.size(); ++i) OCTET_CHECK(scale[i] == scale[i % width]);
    for (size_t i = 0; i < width; ++i) {
      of_keys.weight[i] /= scale[i];
      of_queries.weight[i] *= scale[i];
    }
    return;
  }
  const auto scale_rows = [](FloatWeight& w, const auto& factor) {
    for (size_t r = 0; r < w.shape.n; ++r) {
      const float f = factor(r);
      for (size_t i = 0; i < w.shape.k; ++i) w.w[r * w.shape.k + i] *= f;
      if (!w.bias.empty()) w.bias[r] *= f;
    }
  };
  scale_rows(layer.k(), [&](size_t r) { return 1 / scale[r]; });
  scale_rows(layer.q(), [&](size_t r) { return scale[kv_channel(r, c)]; });
}

void center_values(const std::vector<float>& center, const ModelConfig& c, FloatLayer& layer) {
  FloatWeight &v = layer.v(), &o = layer.o();
  OCTET_CHECK(center.size() == v.shape.n);
  v.bias.resize(v.shape.n, 0.0f);
  o.bias.resize(o.shape.n, 0.0f);
  for (size_t r = 0; r < v.shape.n; ++r) v.bias[r] -= center[r];
  for (size_t j = 0; j < o.shape.n; ++j) {
    double sum = 0;
    for (size_t i = 0; i < o.shape.k; ++i)
      sum += double{o.w[j * o.shape.k + i]} * double{center[kv_channel(i, c)]};
    o.bias[j] += static_cast<float>(sum);
  }
}

void rotate_values(const Rotation& r, const ModelConfig& c, FloatLayer& layer, ThreadTeam& team) {
  const size_t hd = static_cast<size_t>(c.head_dim);
  OCTET_CHECK(r.size() == hd);
  FloatWeight& v = layer.v();
  for (size_t row = 0; row < v.shape.n; row += hd) {
    r.apply_columns(v.w.data() + row * v.shape.k, v.shape.k, team);
    if (!v.bias.empty()) r.apply(v.bias.data() + row);
  }
  FloatWeight& o = layer.o();
  r.apply_rows(o.w.data(), o.w.size() / hd, team);  // every head's part of every row
}

void split_channels(const ChannelSplit& split, FloatLayer& layer) {
  const size_t n = split.source.size();
  const auto take_rows = [&](FloatWeight& w, bool scaled) {
    std::vector<float> rows(n * w.shape.k), bias(w.bias.empty() ? 0 : n);
    for (size_t r = 0; r < n; ++r) {
      const float share = scaled ? split.share[r] : 1.0f;
      for (size_t i = 0; i < w.shape.k; ++i)
        rows[r * w.shape.k + i] = w.w[split.source[r] * w.shape.k + i] * share;
      if (!bias.empty()) bias[r] = w.bias[split.source[r]] * share;
    }
    w.w = std::move(rows);
    w.bias = std::move(bias);
    w.shape.n = n;
  };
  take_rows(layer.gate(), false);
  take_rows(layer.up(), true);
  FloatWeight& down = layer.down();
  std::vector<float> columns(down.shape.n * n);
  for (size_t j = 0; j < down.shape.n; ++j)
    for (size_t i = 0; i < n; ++i) columns[j * n + i] = down.w[j * down.shape.k + split.source[i]];
  down.w = std::move(columns);
  down.shape.k = n;
}

}  // namespace octet
