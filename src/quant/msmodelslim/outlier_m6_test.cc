#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>

#include "src/quant/msmodelslim/outlier_testing.h"

namespace octet {
namespace {

using tests::random_weight;
using tests::uneven_input;

constexpr size_t kSamples = 300, kInputs = 8;  // more rows than are computed at a time

// The two phases in double.
class FlexSearch {
 public:
  FlexSearch(const std::vector<float>& x, const std::vector<FloatWeight>& weights, bool per_token)
      : x_(x), weights_(weights), per_token_(per_token), a_(kInputs), w_(kInputs) {
    for (size_t i = 0; i < x.size(); ++i)
      a_[i % kInputs] = std::fmax(a_[i % kInputs], std::fabs(x[i]));
    for (const FloatWeight& f : weights)
      for (size_t i = 0; i < f.w.size(); ++i)
        w_[i % kInputs] = std::fmax(w_[i % kInputs], std::fabs(f.w[i]));
  }

  std::vector<double> run() {
    double least = 1, best_alpha = 0.5, best_beta = 0.5;
    const auto attempt = [&](double alpha, double beta) {
      const double e = error(scale(alpha, beta));
      EXPECT_GT(std::fabs(e / least - 1), 1e-5);  // clear of rounding in float
      if (e > least) return;
      least = e;
      best_alpha = alpha;
      best_beta = beta;
    };
    for (int i = 0; i <= 20; ++i) attempt(i / 20.0, 1 - i / 20.0);
    const double alpha = best_alpha, same = best_beta;
    for (int i = 0; i <= 20; ++i)
      if (std::fabs(i / 20.0 - same) > 1e-9) attempt(alpha, i / 20.0);
    return scale(best_alpha, best_beta);
  }

 private:
  std::vector<double> scale(double alpha, double beta) const {
    std::vector<double> s(kInputs);
    for (size_t i = 0; i < kInputs; ++i) s[i] = std::pow(a_[i], alpha) / std::pow(w_[i], beta);
    return s;
  }

  double error(const std::vector<double>& s) const {
    double min = 0, max = 0;
    for (size_t i = 0; i < x_.size(); ++i) {
      min = std::fmin(min, x_[i] / s[i % kInputs]);
      max = std::fmax(max, x_[i] / s[i % kInputs]);
    }
    double scale = (max - min) / 255, offset = std::nearbyint(-min / scale) - 128;
    if (per_token_) offset = 0;
    double difference = 0, all = 0;
    for (const FloatWeight& f : weights_)
      for (size_t j = 0; j < f.shape.n; ++j) {
        const float* w = f.w.data() + j * kInputs;
        double top = 0;
        for (size_t i = 0; i < kInputs; ++i) top = std::fmax(top, std::fabs(w[i] * s[i]));
        for (size_t r = 0; r < kSamples; ++r) {
          double want = 0, got = 0, largest = 0;
          for (size_t i = 0; i < kInputs; ++i)
            largest = std::fmax(largest, std::fabs(x_[r * kInputs + i] / s[i]));
          if (per_token_) scale = largest / 127;
          for (size_t i = 0; i < kInputs; ++i) {
            const double x = x_[r * kInputs + i];
            want += x * w[i];
            got += (std::nearbyint(x / s[i] / scale + offset) - offset) * scale *
                   std::nearbyint(w[i] * s[i] / (top / 127)) * (top / 127);
          }
          difference += (got - want) * (got - want);
          all += want * want;
        }
      }
    return std::sqrt(difference / all);
  }

  const std::vector<float>& x_;
  const std::vector<FloatWeight>& weights_;
  bool per_token_;
  std::vector<double> a_, w_;
};

TEST(ScaleM6, EqualsTheSearchInDouble) {
  std::mt19937 rng(3);
  const std::vector<float> x = uneven_input(kSamples, kInputs, rng);
  const std::vector<FloatWeight> weights = {random_weight(9, kInputs, rng),
                                            random_weight(5, kInputs, rng)};
  OutlierStats stats(kInputs, 1, KeepInputs::kAll, false);
  tests::show(stats, {x.data(), kInputs, kSamples});
  for (bool as_v1 : {false, true}) {
    const std::vector<double> want = FlexSearch(x, weights, as_v1).run();
    for (size_t threads : {1, 2}) {
      ThreadTeam team(threads);
      FlexSmooth flex;
      flex.as_v1 = as_v1;
      const std::vector<float> s = make_m6(flex)->scale({stats, {&weights[0], &weights[1]}}, team);
      ASSERT_EQ(s.size(), kInputs);
      for (size_t i = 0; i < kInputs; ++i)
        EXPECT_NEAR(s[i], want[i], 16 * FLT_EPSILON * want[i]) << i;
    }
  }
}

}  // namespace
}  // namespace octet
