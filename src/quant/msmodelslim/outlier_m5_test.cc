#include <gtest/gtest.h>

#include <cfloat>

#include "src/quant/msmodelslim/outlier_testing.h"

namespace octet {
namespace {

// One row of maxima and one of minima.
std::vector<float> scale_of(std::vector<float> high, const std::vector<float>& low) {
  OutlierStats stats(high.size(), 1, KeepInputs::kNone, false);
  high.insert(high.end(), low.begin(), low.end());
  tests::show(stats, {high.data(), low.size(), 2});
  ThreadTeam team(1);
  return make_m5()->scale({stats, {}}, team);
}

// Maxima 1 1 1 1 2 2: quantiles 1 and 2, so the bound is 3.5; minima -1: bound -1.
TEST(ScaleM5, NothingBeyondTheBounds) {
  const std::vector<float> low(6, -1);
  EXPECT_EQ(scale_of({1, 1, 1, 1, 2, 2}, low), std::vector<float>(6, 1));
}

// 20 % and 80 % of 1 1 1 1 2 100 are 1 and 2: only the last one is beyond 3.5.
TEST(ScaleM5, OneOutlier) {
  const std::vector<float> low(6, -1), s = scale_of({1, 1, 1, 1, 2, 100}, low);
  for (size_t i = 0; i < 5; ++i) EXPECT_EQ(s[i], 1) << i;
  EXPECT_NEAR(s[5], std::pow(50.0, 0.7), 8 * FLT_EPSILON * s[5]);
}

// Twenty ones, then 9 9.5 40: the bound is 1. Splits of 40 9.5 9: gap 30.5 less variance 0.125 of
// (9.5, 9), gap 0.5 less 0: the first, so the bound is 9.5 and 40 alone is an outlier.
TEST(ScaleM5, TheSplitSearchRaisesTheBound) {
  std::vector<float> high(23, 1);
  high[20] = 9, high[21] = 9.5f, high[22] = 40;
  const std::vector<float> low(23, -1), s = scale_of(high, low);
  for (size_t i = 0; i < 22; ++i) EXPECT_EQ(s[i], 1) << i;
  EXPECT_NEAR(s[22], std::pow(40 / 9.5, 0.7), 8 * FLT_EPSILON * s[22]);
}

// The mirror image at the lower side: -9 -9.5 | -40.
TEST(ScaleM5, MinimaToo) {
  std::vector<float> low(23, -1);
  low[20] = -9, low[21] = -9.5f, low[22] = -40;
  const std::vector<float> high(23, 1), s = scale_of(high, low);
  for (size_t i = 0; i < 22; ++i) EXPECT_EQ(s[i], 1) << i;
  EXPECT_NEAR(s[22], std::pow(40 / 9.5, 0.7), 8 * FLT_EPSILON * s[22]);
}

TEST(ScaleM5, LowestOfZeroDoesNotCount) {
  std::vector<float> low(6, 0);
  low[5] = -4;
  EXPECT_EQ(scale_of(std::vector<float>(6, 1), low), std::vector<float>(6, 1));
}

}  // namespace
}  // namespace octet
