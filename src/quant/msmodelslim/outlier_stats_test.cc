#include "src/quant/msmodelslim/outlier_stats.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "src/quant/msmodelslim/outlier_testing.h"

namespace octet {
namespace {

const std::vector<float> kA = {1, -5, 99, -3, 2, 99}, kB = {2, 7};  // rows of stride 3 and 2

OutlierStats gathered(KeepInputs keep, bool deviation = false) {
  OutlierStats s(2, 2, keep, deviation);
  tests::show(s, {kA.data(), 3, 2});
  tests::show(s, {kB.data(), 2, 1});
  return s;
}

TEST(OutlierStats, ExtremesAndMeans) {
  const OutlierStats s = gathered(KeepInputs::kNone);
  EXPECT_EQ(s.highest(), (std::vector<float>{2, 7}));
  EXPECT_EQ(s.lowest(), (std::vector<float>{-3, -5}));
  EXPECT_EQ(s.amplitude(), (std::vector<float>{3, 7}));
  EXPECT_EQ(s.shift(), (std::vector<float>{-0.5f, 1}));
  EXPECT_EQ(s.mean_amplitude(), (std::vector<float>{2, 14 / 3.0f}));
  EXPECT_TRUE(s.inputs().empty());
}

TEST(OutlierStats, KeepsWhatIsAskedFor) {
  EXPECT_EQ(gathered(KeepInputs::kFirstBatch).inputs(), (std::vector<float>{1, -5, -3, 2}));
  EXPECT_EQ(gathered(KeepInputs::kAll).inputs(), (std::vector<float>{1, -5, -3, 2, 2, 7}));
}

TEST(OutlierStats, SpreadRowsAreEvenlySpaced) {
  constexpr size_t kBatches = OutlierStats::kSpreadRows / 2;  // two rows of each
  OutlierStats s(1, kBatches, KeepInputs::kSpread, false);
  const std::vector<float> rows = {0, 1, 2, 3, 4, 5};
  for (size_t i = 0; i < kBatches; ++i) tests::show(s, {rows.data(), 1, 6});
  ASSERT_EQ(s.inputs().size(), OutlierStats::kSpreadRows);
  for (size_t i = 0; i < s.inputs().size(); ++i) EXPECT_EQ(s.inputs()[i], i % 2 == 0 ? 0 : 3);
}

// After the first batch the shift is (-1, -1.5): rows (2, -3.5) and (-2, 3.5), spread
// sqrt(32.5 / 3). After the second it is (-0.5, 1): the row (2.5, 6), spread sqrt(6.125).
TEST(OutlierStats, DeviationFollowsTheRunningShift) {
  const OutlierStats s = gathered(KeepInputs::kNone, true);
  EXPECT_EQ(s.shifted_highest(), (std::vector<float>{2.5f, 6}));
  EXPECT_NEAR(s.deviation(), std::sqrt(32.5 / 3), 4 * FLT_EPSILON);
}

// The same two channels among others, more than one worker takes.
TEST(OutlierStats, OfManyChannels) {
  constexpr size_t kMany = 70, kStride = 72;
  OutlierStats s(kMany, 1, KeepInputs::kNone, true);
  std::vector<float> x(2 * kStride, 1e30f);
  for (size_t i = 0; i < kMany; ++i) {
    x[i] = static_cast<float>(i);
    x[kStride + i] = -static_cast<float>(3 * i);
  }
  tests::show(s, {x.data(), kStride, 2});
  double squares = 0;
  for (size_t i = 0; i < kMany; ++i) {
    const float c = static_cast<float>(i);
    EXPECT_EQ(s.highest()[i], c);
    EXPECT_EQ(s.lowest()[i], -3 * c);
    EXPECT_EQ(s.mean_amplitude()[i], 2 * c);
    EXPECT_EQ(s.shifted_highest()[i], 2 * c);  // about the shift, -c
    squares += 8 * double{c} * double{c};
  }
  const double want = std::sqrt(squares / (2 * kMany - 1));  // the mean is zero
  EXPECT_NEAR(s.deviation(), want, 4 * FLT_EPSILON * want);
}

}  // namespace
}  // namespace octet
