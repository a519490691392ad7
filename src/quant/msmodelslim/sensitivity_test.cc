#include "src/quant/msmodelslim/sensitivity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

namespace octet {
namespace {

constexpr double kClose = 1e-12;  // sums of a few small integers in double

// Columns (1, 3) and (2, -2) have hi + lo = 4 and 0. Less that: -3, 2, -1, -2, with mean -1,
// squared deviations 4 + 9 + 0 + 1, and 3 degrees of freedom.
const std::vector<float> kX = {1, 2, 3, -2};
const double kStd = std::sqrt(14.0 / 3);

TEST(Sensitivity, ScoreByHand) {
  Sensitivity s(/*as_msmodelslim=*/true);
  s.observe(kX.data(), 2, 2, 2, nullptr);
  EXPECT_NEAR(s.score(), 3 / kStd, kClose);
}

// Half of it: (1, 3) less 2 and (2, -2), so -1, 2, 1, -2, with mean 0 and squares 10.
TEST(Sensitivity, AroundTheMiddleOfEachChannel) {
  Sensitivity s(/*as_msmodelslim=*/false);
  s.observe(kX.data(), 2, 2, 2, nullptr);
  EXPECT_NEAR(s.score(), 3 / std::sqrt(10.0 / 3), kClose);
}

TEST(Sensitivity, ReadsRowsByTheirStride) {
  const std::vector<float> x = {1, 2, 99, 3, -2, -99};
  Sensitivity s(/*as_msmodelslim=*/true);
  s.observe(x.data(), 3, 2, 2, nullptr);
  EXPECT_NEAR(s.score(), 3 / kStd, kClose);
}

TEST(Sensitivity, DividesByTheScale) {
  const std::vector<float> x = {2, 0.5f, 6, -0.5f}, scale = {2, 0.25f};
  Sensitivity s(/*as_msmodelslim=*/true);
  s.observe(x.data(), 2, 2, 2, scale.data());
  EXPECT_NEAR(s.score(), 3 / kStd, kClose);
}

// The largest amplitude, of either sign, and the largest spread, of whichever samples.
TEST(Sensitivity, TakesTheLargestOverSamples) {
  Sensitivity s(/*as_msmodelslim=*/true);
  s.observe(kX.data(), 2, 2, 2, nullptr);
  // hi + lo = -14: less that 6 and 8, spread sqrt(2).
  const std::vector<float> narrow = {-8, -6};
  s.observe(narrow.data(), 1, 2, 1, nullptr);
  EXPECT_NEAR(s.score(), 8 / kStd, kClose);
  // hi + lo = 0: less that 6 and -6, spread sqrt(72).
  const std::vector<float> wide = {6, -6};
  s.observe(wide.data(), 1, 2, 1, nullptr);
  EXPECT_NEAR(s.score(), 8 / std::sqrt(72.0), kClose);
}

// With one token hi = lo = x, so x - 2 x is what spreads.
TEST(Sensitivity, OneToken) {
  const std::vector<float> x = {5, -1, 2};
  Sensitivity s(/*as_msmodelslim=*/true);
  s.observe(x.data(), 3, 1, 3, nullptr);
  EXPECT_NEAR(s.score(), 5 / 3.0, kClose);  // of 5, -1, 2: mean 2, squares 9 + 9 + 0, over 2: 9
}

TEST(Sensitivity, ConstantInputIsNoNumberToSortBy) {
  for (float value : {0.0f, 4.0f}) {
    const std::vector<float> x(6, value);
    Sensitivity s(/*as_msmodelslim=*/true);
    s.observe(x.data(), 2, 3, 2, nullptr);
    EXPECT_EQ(s.score(), 0);
  }
}

TEST(QuantileScore, TakesEveryHundredthOfALargeBatch) {
  std::vector<float> x(1000);
  std::iota(x.rbegin(), x.rend(), 0.0f);  // 999 ... 0
  QuantileScore s;
  s.observe(x.data(), 10, 100, 10);
  // 50, 150, ... 950: quartiles at index 2 and 6.
  EXPECT_DOUBLE_EQ(s.score(), 2 * 950.0 / 254 / (650 - 250));
}

TEST(QuantileScore, TakesAllOfASmallBatchAndJoinsBatches) {
  QuantileScore s;
  const std::vector<float> a = {-6, 2, 99, 1, 3, 99}, b = {4, 5, 0, 7};
  s.observe(a.data(), 3, 2, 2);
  s.observe(b.data(), 2, 2, 2);
  // -6 0 1 2 3 4 5 7: quartiles at index 2 and 6.
  EXPECT_DOUBLE_EQ(s.score(), 2 * 7.0 / 254 / (5 - 1));
}

TEST(QuantileScore, EqualQuartiles) {
  QuantileScore zero, spike;
  const std::vector<float> zeros(8, 0.0f), one = {0, 0, 0, 0, 0, 0, 0, 1};
  zero.observe(zeros.data(), 8, 1, 8);
  spike.observe(one.data(), 8, 1, 8);
  EXPECT_EQ(zero.score(), 0);
  EXPECT_TRUE(std::isinf(spike.score()));
}

}  // namespace
}  // namespace octet
