#include "src/quant/layerwise/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace octet {
namespace {

std::vector<float> random(size_t n, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> v(n);
  for (float& x : v) x = normal(engine);
  return v;
}

// Correlated inputs [m, k].
std::vector<float> inputs(size_t m, size_t k) {
  std::vector<float> x = random(m * k, 1);
  for (size_t t = 0; t < m; ++t)
    for (size_t i = 1; i < k; ++i) x[t * k + i] = 0.9f * x[t * k + i - 1] + 0.4f * x[t * k + i];
  return x;
}

double output_error(const std::vector<float>& x, const std::vector<float>& w,
                    const RoundedWeight& r, size_t m, size_t n, size_t k) {
  double sum = 0;
  for (size_t t = 0; t < m; ++t)
    for (size_t j = 0; j < n; ++j) {
      double d = 0;
      for (size_t i = 0; i < k; ++i)
        d += double{x[t * k + i]} * (double{w[j * k + i]} - double{r.scale[j]} * r.q[j * k + i]);
      sum += d * d;
    }
  return sum;
}

TEST(Gptq, ThePlanFactorsTheHessian) {
  const size_t m = 900, k = 300;  // more than two blocks
  ThreadTeam team(2);
  const std::unique_ptr<Communicator> alone = solo_communicator();
  const std::vector<float> x = inputs(m, k);
  std::vector<float> weight(m);
  for (size_t t = 0; t < m; ++t) weight[t] = t % 3 == 0 ? 0.5f : 1.5f;
  const RoundingPlan plan = plan_rounding({x.data(), k, m, weight.data()}, 0.01, team, *alone);
  std::vector<double> h(k * k, 0.0);  // in the plan's order
  for (size_t t = 0; t < m; ++t)
    for (size_t i = 0; i < k; ++i)
      for (size_t j = 0; j < k; ++j)
        h[i * k + j] +=
            double{weight[t]} * double{x[t * k + plan.order[i]]} * double{x[t * k + plan.order[j]]};
  double mean = 0;
  for (size_t i = 0; i < k; ++i) mean += h[i * k + i] / static_cast<double>(k);
  for (size_t i = 1; i < k; ++i) EXPECT_GE(h[(i - 1) * k + i - 1], h[i * k + i]);
  const auto b = [&](size_t i, size_t j) { return i == j ? 1.0 : double{plan.factor[i * k + j]}; };
  // B diag(d) B^T = H + damping; the last column of B gives d from the last diagonal entry on.
  std::vector<double> d(k);
  for (size_t i = k; i-- > 0;) {
    d[i] = h[i * k + i] + 0.01 * mean;
    for (size_t j = i + 1; j < k; ++j) d[i] -= d[j] * b(i, j) * b(i, j);
    EXPECT_GT(d[i], 0);
  }
  for (size_t i = 0; i < k; i += 7)
    for (size_t l = 0; l < i; l += 5) {
      double v = 0;
      for (size_t j = i; j < k; ++j) v += d[j] * b(i, j) * b(l, j);
      EXPECT_NEAR(v, h[i * k + l], 1e-4 * mean);
    }
}

TEST(Gptq, IndependentChannelsRoundToNearest) {
  const size_t n = 19, k = 130;
  ThreadTeam team(2);
  const std::unique_ptr<Communicator> alone = solo_communicator();
  std::vector<float> x(k * k, 0.0f);
  for (size_t i = 0; i < k; ++i) x[i * k + i] = 1 + static_cast<float>(i);
  const std::vector<float> ones(k, 1.0f), w = random(n * k, 2);
  const RoundedWeight a = round_weight(w, n, k, false, team);
  const RoundedWeight b = round_weight_gptq(
      w, n, k, plan_rounding({x.data(), k, k, ones.data()}, 0, team, *alone), team, *alone);
  EXPECT_EQ(a.q, b.q);
  EXPECT_EQ(a.scale, b.scale);
  EXPECT_EQ(a.sum, b.sum);
}

TEST(Gptq, OneTokenIsEnough) {
  // H has rank one, and large values beside small ones.
  const size_t n = 8, k = 300;
  ThreadTeam team(2);
  const std::unique_ptr<Communicator> alone = solo_communicator();
  std::vector<float> x = random(k, 4);
  for (size_t i = 0; i < k; i += 3) x[i] *= 1e4f;
  const std::vector<float> one(1, 1.0f), w = random(n * k, 2);
  const RoundingPlan plan = plan_rounding({x.data(), k, 1, one.data()}, 1e-6, team, *alone);
  for (size_t i = 0; i < k; ++i)
    for (size_t j = i + 1; j < k; ++j) ASSERT_TRUE(std::isfinite(plan.factor[i * k + j]));
  const RoundedWeight nearest = round_weight(w, n, k, false, team);
  const RoundedWeight r = round_weight_gptq(w, n, k, plan, team, *alone);
  EXPECT_LT(output_error(x, w, r, 1, n, k), output_error(x, w, nearest, 1, n, k));
}

TEST(Gptq, HalvesTheErrorOnCorrelatedInputs) {
  const size_t m = 1200, n = 40, k = 290;
  ThreadTeam team(2);
  const std::unique_ptr<Communicator> alone = solo_communicator();
  const std::vector<float> x = inputs(m, k), ones(m, 1.0f), w = random(n * k, 2);
  const RoundedWeight nearest = round_weight(w, n, k, false, team);
  const RoundedWeight r = round_weight_gptq(
      w, n, k, plan_rounding({x.data(), k, m, ones.data()}, 0.01, team, *alone), team, *alone);
  for (size_t j = 0; j < n; ++j) {
    int64_t sum = 0;
    for (size_t i = 0; i < k; ++i) sum += r.q[j * k + i];
    EXPECT_EQ(r.sum[j], sum);
  }
  EXPECT_LT(output_error(x, w, r, m, n, k), 0.5 * output_error(x, w, nearest, m, n, k));
}

}  // namespace
}  // namespace octet
