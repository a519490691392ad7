#include "src/quant/outlier.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/kernels/kernels.h"
#include "src/quant/weight_rounding.h"

namespace octet {
namespace {

constexpr float kMinScale = 1e-5f;

// m1: sqrt of the activation's amplitude over the weight's.
std::vector<float> smooth_quant(const OutlierStats& stats,
                                const std::vector<const FloatWeight*>& targets) {
  const size_t k = stats.amplitude().size();
  std::vector<float> w(k, 0.0f), s(k);
  for (const FloatWeight* t : targets)
    for (size_t i = 0; i < t->w.size(); ++i) w[i % k] = std::max(w[i % k], std::fabs(t->w[i]));
  for (size_t i = 0; i < k; ++i)
    s[i] =
        std::max(kMinScale, std::sqrt(stats.amplitude()[i]) / std::sqrt(std::max(kMinScale, w[i])));
  return s;
}

// Mean squared output error on x [m, k] when `weight` is rounded after its columns were scaled by
// s.
double scaled_rounding_error(const std::vector<float>& x, size_t m, const FloatWeight& weight,
                             const std::vector<float>& s, ThreadTeam& team) {
  const auto& t = kernels::table();
  const size_t n = weight.shape.n, k = weight.shape.k, panel = t.float_panel;
  std::vector<double> sums(team.size());
  team.run([&](Worker& worker) {
    // A panel of rows at a time: the difference that rounding makes, then its product with x.
    std::vector<float> scaled(k), difference(panel * k), packed(panel * k), y(m * panel);
    double sum = 0;
    const auto [begin, end] = worker.share(n, panel);
    for (size_t j0 = begin; j0 < end; j0 += panel) {
      const size_t rows = std::min(panel, end - j0);
      for (size_t j = 0; j < rows; ++j) {
        const float* w = weight.w.data() + (j0 + j) * k;
        for (size_t i = 0; i < k; ++i) scaled[i] = w[i] * s[i];
        const float scale = row_scale(scaled.data(), k);
        for (size_t i = 0; i < k; ++i)
          difference[j * k + i] = round_to_grid(scaled[i], scale) * scale / s[i] - w[i];
      }
      t.float_pack(difference.data(), kernels::FloatType::kF32, rows, k, 0, 1, packed.data());
      t.float_gemm({x.data(), k, m, packed.data(), kernels::FloatType::kF32, k, rows, 0, 1, nullptr,
                    y.data(), rows, false});
      for (size_t i = 0; i < m * rows; ++i) sum += double{y[i]} * y[i];
    }
    sums[worker.id()] = sum;
  });
  double total = 0;
  for (double v : sums) total += v;
  return total / static_cast<double>(m * n);
}

// m3: powers of the mean amplitude of the first sample, the one with the least output error.
std::vector<float> awq(const OutlierStats& stats, const std::vector<const FloatWeight*>& targets,
                       ThreadTeam& team) {
  const size_t k = stats.amplitude().size(), m = stats.first().size() / k;
  std::vector<float> mean(k, 0.0f), best;
  for (size_t i = 0; i < stats.first().size(); ++i) mean[i % k] += std::fabs(stats.first()[i]);
  for (float& v : mean) v /= static_cast<float>(m);
  double best_loss = INFINITY;
  for (int step = 0; step < 20; ++step) {
    std::vector<float> s(k);
    for (size_t i = 0; i < k; ++i)
      s[i] = std::max(1e-4f, std::pow(mean[i], static_cast<float>(step) / 20.0f));
    const auto [lo, hi] = std::minmax_element(s.begin(), s.end());
    const float middle = std::sqrt(*hi * *lo);
    for (float& v : s) v /= middle;
    double loss = 0;
    for (const FloatWeight* t : targets)
      loss += scaled_rounding_error(stats.first(), m, *t, s, team);
    if (loss < best_loss) {
      best_loss = loss;
      best = std::move(s);
    }
  }
  OCTET_CHECK(!best.empty());
  return best;
}

}  // namespace

void OutlierStats::observe(const float* x, size_t ldx, size_t m) {
  const size_t k = amplitude_.size();
  if (first_.empty())
    for (size_t r = 0; r < m; ++r) first_.insert(first_.end(), x + r * ldx, x + r * ldx + k);
  for (size_t r = 0; r < m; ++r)
    for (size_t i = 0; i < k; ++i)
      amplitude_[i] = std::max(amplitude_[i], std::fabs(x[r * ldx + i]));
}

std::vector<float> smoothing_scale(AntiMethod method, const OutlierStats& stats,
                                   const std::vector<const FloatWeight*>& targets,
                                   ThreadTeam& team) {
  switch (method) {
    case AntiMethod::kM1:
      return smooth_quant(stats, targets);
    case AntiMethod::kM3:
      return awq(stats, targets, team);
    case AntiMethod::kNone:
      break;
  }
  OCTET_CHECK(false);
}

void fuse(const std::vector<float>& scale, Norm& norm, const std::vector<FloatWeight*>& targets) {
  const size_t k = scale.size();
  for (size_t i = 0; i < k; ++i) norm.weight[i] /= scale[i];
  for (size_t i = 0; i < norm.bias.size(); ++i) norm.bias[i] /= scale[i];
  for (FloatWeight* t : targets)
    for (size_t i = 0; i < t->w.size(); ++i) t->w[i] *= scale[i % k];
}

}  // namespace octet
