#include "src/quant/msmodelslim/quantile_score.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace octet {
namespace {

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
