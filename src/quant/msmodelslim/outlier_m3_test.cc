#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>

#include "src/quant/msmodelslim/outlier_testing.h"

namespace octet {
namespace {

using tests::random_weight;
using tests::uneven_input;
using tests::Winner;

// The search in double: for each power of the mean amplitude, weights scaled, rounded, scaled back,
// and the squared difference of the outputs.
Winner search(const std::vector<float>& x, size_t m, const std::vector<FloatWeight>& weights,
              bool asymmetric) {
  const size_t k = x.size() / m;
  std::vector<double> mean(k);
  for (size_t i = 0; i < x.size(); ++i)
    mean[i % k] += std::fabs(double{x[i]}) / static_cast<double>(m);
  Winner winner;
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
        double low = 0, high = 0;
        for (size_t i = 0; i < k; ++i) {
          low = std::fmin(low, w[i] * s[i]);
          high = std::fmax(high, w[i] * s[i]);
        }
        const double scale = asymmetric ? (high - low) / 255 : std::fmax(-low, high) / 127;
        const double offset = asymmetric ? std::nearbyint(-low / scale) - 128 : 0;
        std::vector<double> d(k);
        for (size_t i = 0; i < k; ++i)
          d[i] = (std::nearbyint(w[i] * s[i] / scale + offset) - offset) * scale / s[i] - w[i];
        for (size_t r = 0; r < m; ++r) {
          double y = 0;
          for (size_t i = 0; i < k; ++i) y += x[r * k + i] * d[i];
          loss += y * y / static_cast<double>(m * f.shape.n);
        }
      }
    winner.offer(loss, s);
  }
  return winner;
}

TEST(ScaleM3, EqualsTheSearchInDouble) {
  constexpr size_t m = 6, k = 16;
  std::mt19937 rng(11);
  const std::vector<float> x = uneven_input(m, k, rng);
  const std::vector<FloatWeight> weights = {random_weight(9, k, rng), random_weight(5, k, rng)};
  OutlierStats stats(k, 1, KeepInputs::kFirstBatch, false);
  tests::show(stats, {x.data(), k, m});
  for (bool asymmetric : {false, true}) {
    const Winner want = search(x, m, weights, asymmetric);
    ASSERT_GT(want.second, 1.001 * want.least);  // the winner is clear of rounding in float
    for (size_t threads : {1, 2}) {
      ThreadTeam team(threads);
      const std::vector<float> s =
          make_m3(asymmetric, false)->scale({stats, {&weights[0], &weights[1]}}, team);
      ASSERT_EQ(s.size(), k);
      // A power (its exponent below one), a root and a division in float.
      for (size_t i = 0; i < k; ++i)
        EXPECT_NEAR(s[i], want.scale[i], 16 * FLT_EPSILON * want.scale[i]) << i;
    }
  }
}

}  // namespace
}  // namespace octet
