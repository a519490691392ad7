#include "src/quant/layer/kv_range.h"

#include <algorithm>
#include <cmath>

#include "src/base/checked.h"
#include "src/quant/int8/quant_params.h"

namespace octet {
namespace {

constexpr size_t kGrain = 16;  // channels: a cache line

}  // namespace

KvRange KvRange::of_keys(const ModelConfig& config, const LayerNorms& norms) {
  return {as_size(config.kv_size()), as_size(config.head_dim), norms[NormKind::kKey]};
}

void KvRange::observe(Worker& w, const Rows& x) {
  const auto [begin, end] = w.share(low_.size(), kGrain);
  for (size_t r = 0; r < x.m; ++r)
    for (size_t i = begin; i < end; ++i) observe(i, x.x[r * x.ld + i]);
}

void KvRange::observe_rotated(Worker& w, const Rows& x, const RopeAngles& angles) {
  const size_t half = half_dim_;
  const auto [begin, end] = w.share(low_.size(), 2 * half);
  if (begin == end) return;
  std::vector<float> row(end - begin);
  for (size_t r = 0; r < x.m; ++r) {
    std::copy_n(x.x + r * x.ld + begin, row.size(), row.data());
    key_norm_.heads(row.data(), row.size() / (2 * half));
    for (size_t head = 0; head < row.size(); head += 2 * half)
      for (size_t i = 0; i < half; ++i) {
        const float a = row[head + i], b = row[head + half + i];
        const float c = angles.cos[r * half + i], s = angles.sin[r * half + i];
        observe(begin + head + i, a * c - b * s);
        observe(begin + head + half + i, b * c + a * s);
      }
  }
}

std::vector<float> KvRange::key_scale(double power) const {
  const size_t width = 2 * half_dim_;
  const bool shared = !key_norm_.weight.empty();
  std::vector<float> largest(low_.size());
  for (size_t head = 0; head < largest.size(); head += width)
    for (size_t i = head; i < head + half_dim_; ++i)
      largest[i] = largest[i + half_dim_] = std::max(top(i), top(i + half_dim_));
  if (shared) {
    for (size_t i = width; i < largest.size(); ++i)
      largest[i % width] = std::max(largest[i % width], largest[i]);
    for (size_t i = width; i < largest.size(); ++i) largest[i] = largest[i % width];
  }
  std::vector<float> s(largest.size());
  for (size_t i = 0; i < s.size(); ++i)
    s[i] = static_cast<float>(std::pow(std::max(1e-5f, largest[i]), power));
  if (shared)
    for (float& v : s) v = std::exp2(std::round(std::log2(v)));
  return s;
}

std::vector<float> KvRange::scale(const std::vector<float>& s,
                                  const std::vector<float>& center) const {
  std::vector<float> scale(low_.size());
  for (size_t i = 0; i < scale.size(); ++i) {
    const float c = center.empty() ? 0 : center[i];
    const float largest = std::max(std::fabs(low_[i] - c), std::fabs(high_[i] - c));
    scale[i] = std::max(kMinQuantScale, (s.empty() ? largest : largest / std::fabs(s[i])) / 127.0f);
  }
  return scale;
}

}  // namespace octet
