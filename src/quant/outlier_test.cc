#include "src/quant/outlier.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <random>

namespace octet {
namespace {

FloatWeight weight(size_t n, size_t k, std::vector<float> w) {
  FloatWeight f;
  f.shape = {n, k, false};
  f.w = std::move(w);
  return f;
}

TEST(OutlierStats, GathersAmplitudesAndTheFirstSample) {
  OutlierStats stats(2);
  const std::vector<float> a = {1, -5, 99, -3, 2, 99}, b = {2, 7};
  stats.observe(a.data(), 3, 2);
  stats.observe(b.data(), 2, 1);
  EXPECT_EQ(stats.amplitude(), (std::vector<float>{3, 7}));
  EXPECT_EQ(stats.first(), (std::vector<float>{1, -5, -3, 2}));
}

// Amplitudes a = 4, 9, 0, 1 of the input, w = 1, 4, 5, 0 of the weights: sqrt(a) / sqrt(w) with w
// and the result at least 1e-5.
TEST(SmoothingScale, M1ByHand) {
  OutlierStats stats(4);
  const std::vector<float> x = {-4, 2, 0, 1, 3, 0, 0, -0.5f}, later = {1, -9, 0, 0};
  stats.observe(x.data(), 4, 2);
  stats.observe(later.data(), 4, 1);
  const FloatWeight q = weight(2, 4, {1, -2, 5, 0, -0.25f, 0.5f, 0, 0});
  const FloatWeight k = weight(1, 4, {0.5f, 4, 3, 0});
  ThreadTeam team(1);
  const std::vector<float> s = smoothing_scale(AntiMethod::kM1, stats, {&q, &k}, team);
  const double want[] = {2 / 1.0, 3 / 2.0, 1e-5, 1 / std::sqrt(1e-5)};
  ASSERT_EQ(s.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(s[i], want[i], 4 * FLT_EPSILON * want[i]) << i;
}

// The search in double: for each power of the mean amplitude, weights scaled, rounded, scaled back,
// and the squared difference of the outputs.
TEST(SmoothingScale, M3EqualsTheSearchInDouble) {
  constexpr size_t m = 6, k = 16, rows[] = {9, 5};
  std::mt19937 rng(11);
  std::normal_distribution<float> normal;
  std::vector<float> x(m * k);
  for (size_t i = 0; i < x.size(); ++i)  // some channels are much larger than others
    x[i] = normal(rng) * std::exp2(static_cast<float>(i % k % 5));
  std::vector<FloatWeight> weights;
  for (size_t n : rows) {
    std::vector<float> w(n * k);
    for (float& v : w) v = normal(rng);
    weights.push_back(weight(n, k, std::move(w)));
  }
  OutlierStats stats(k);
  stats.observe(x.data(), k, m);
  const std::vector<float> other(k, 1000.0f);  // later samples do not matter
  stats.observe(other.data(), k, 1);

  std::vector<double> mean(k), best;
  for (size_t i = 0; i < x.size(); ++i) mean[i % k] += std::fabs(double{x[i]}) / m;
  double least = INFINITY, second = INFINITY;
  for (int step = 0; step < 20; ++step) {
    std::vector<double> s(k);
    for (size_t i = 0; i < k; ++i) s[i] = std::fmax(1e-4, std::pow(mean[i], step / 20.0));
    const auto [lo, hi] = std::minmax_element(s.begin(), s.end());
    const double middle = std::sqrt(*lo * *hi);
    for (double& v : s) v /= middle;
    double loss = 0;
    for (const FloatWeight& f : weights)
      for (size_t j = 0; j < f.shape.n; ++j) {
        const float* w = f.w.data() + j * k;
        double top = 0;
        for (size_t i = 0; i < k; ++i) top = std::fmax(top, std::fabs(w[i] * s[i]));
        std::vector<double> d(k);
        for (size_t i = 0; i < k; ++i)
          d[i] = std::nearbyint(w[i] * s[i] / (top / 127)) * (top / 127) / s[i] - w[i];
        for (size_t r = 0; r < m; ++r) {
          double y = 0;
          for (size_t i = 0; i < k; ++i) y += x[r * k + i] * d[i];
          loss += y * y / static_cast<double>(m * f.shape.n);
        }
      }
    if (loss < least) {
      second = least;
      least = loss;
      best = s;
    } else {
      second = std::fmin(second, loss);
    }
  }
  ASSERT_GT(second, 1.001 * least);  // the winner is clear of rounding in float
  for (size_t threads : {1, 2}) {
    ThreadTeam team(threads);
    const std::vector<float> s =
        smoothing_scale(AntiMethod::kM3, stats, {&weights[0], &weights[1]}, team);
    ASSERT_EQ(s.size(), k);
    // The mean's k additions, a power (its exponent below one), a root and a division in float.
    for (size_t i = 0; i < k; ++i) EXPECT_NEAR(s[i], best[i], 16 * FLT_EPSILON * best[i]) << i;
  }
}

TEST(Fuse, MovesTheScaleFromTheNormIntoTheWeights) {
  Norm norm;
  norm.weight = {1, 3, -8};
  norm.bias = {2, 0, 4};
  FloatWeight a = weight(2, 3, {1, 2, 3, 4, 5, 6}), b = weight(1, 3, {-1, -1, -1});
  fuse({2, 0.5f, 4}, norm, {&a, &b});
  EXPECT_EQ(norm.weight, (std::vector<float>{0.5f, 6, -2}));
  EXPECT_EQ(norm.bias, (std::vector<float>{1, 0, 1}));
  EXPECT_EQ(a.w, (std::vector<float>{2, 1, 12, 8, 2.5f, 24}));
  EXPECT_EQ(b.w, (std::vector<float>{-2, -0.5f, -4}));
}

}  // namespace
}  // namespace octet
