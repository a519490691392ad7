#include "src/quant/layerwise/calibration_tokens.h"

#include <gtest/gtest.h>

#include "src/quant/layerwise/range_search.h"

namespace octet {
namespace {

// Texts of 100 tokens: the i-th token of text t is 1000 t + i.
CalibrationTokens texts(size_t count) {
  CalibrationData data;
  for (size_t t = 0; t < count; ++t) {
    std::vector<int32_t>& text = data.samples.emplace_back().emplace_back();
    for (int32_t i = 0; i < 100; ++i) text.push_back(static_cast<int32_t>(1000 * t) + i);
  }
  return CalibrationTokens(data);
}

TEST(CalibrationTokens, FewAreAllInTheSubset) {
  const CalibrationTokens t = texts(80);  // 8000 tokens
  EXPECT_EQ(t.size(), 8000u);
  EXPECT_EQ(t.subset.size(), 8000u);
  EXPECT_EQ(t.of_subset_only().ids, t.ids);
}

TEST(CalibrationTokens, OfManyEveryNthTextIs) {
  const CalibrationTokens t = texts(201);  // 20100 tokens: every third text
  const CalibrationTokens some = t.of_subset_only();
  EXPECT_EQ(some.lengths, std::vector<size_t>(67, 100));
  ASSERT_EQ(some.size(), 6700u);
  for (size_t i = 0; i < some.size(); ++i)
    ASSERT_EQ(some.ids[i], static_cast<int32_t>(3000 * (i / 100) + i % 100));
  // They are all that there is: quarters are theirs, and their subset has them all.
  EXPECT_EQ(some.subset.size(), some.size());
  EXPECT_EQ(some.subset_lengths, some.lengths);
  EXPECT_EQ(some.subset_fold, some.fold);
  EXPECT_EQ(some.fold.front(), 0);
  EXPECT_EQ(some.fold.back(), kFolds - 1);
  EXPECT_EQ(t.subset_fold.size(), 6700u);
}

// The mean of the subset's rows, weighted: the text's number where a text's first token counts.
TEST(CalibrationTokens, MeansOfTheSubset) {
  const CalibrationTokens t = texts(201);
  ThreadTeam team(3);
  constexpr size_t kColumns = 40;
  std::vector<float> x(t.size() * kColumns), weight(t.size(), 0.0f);
  for (size_t row = 0; row < t.size(); ++row) {
    if (row % 100 == 0) weight[row] = 2;
    const size_t text = row / 100;
    for (size_t c = 0; c < kColumns; ++c) x[row * kColumns + c] = static_cast<float>(text + c);
  }
  const std::vector<double> mean = t.subset_mean(x.data(), kColumns, weight, team);
  for (size_t c = 0; c < kColumns; ++c) EXPECT_DOUBLE_EQ(mean[c], 99 + static_cast<double>(c));
}

}  // namespace
}  // namespace octet
