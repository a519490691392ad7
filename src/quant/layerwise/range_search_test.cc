#include "src/quant/layerwise/range_search.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace octet {
namespace {

constexpr size_t kSamples = 400, kWidth = 48;

class Ranges : public ::testing::Test {
 protected:
  Ranges() : x_(kSamples * kWidth), weight_(kSamples, 1.0f), channel_(kWidth, 1.0f) {
    std::mt19937 engine(3);
    std::normal_distribution<float> normal;
    for (float& v : x_) v = normal(engine);
    for (size_t t = 0; t < kSamples; ++t)
      fold_.push_back(static_cast<uint8_t>(t * kFolds / kSamples));
  }
  RangeProblem problem() const {
    return {x_.data(), kWidth, kSamples, kWidth, weight_.data(), channel_.data(), 1, fold_.data()};
  }
  QuantParams find(const RangeFit& rule) { return find_range(problem(), rule, DType::kF32, team_); }

  ThreadTeam team_{2};
  std::vector<float> x_, weight_, channel_;
  std::vector<uint8_t> fold_;
};

TEST_F(Ranges, TheSearchCutsALoneOutlier) {
  x_[5] = 60;  // one value of 19200, in a token that counts for nothing
  weight_[0] = 0;
  const QuantParams full = find({RangeMethod::kMinMax}), best = find({RangeMethod::kSearch});
  EXPECT_LT(best.scale, 0.3f * full.scale);
  EXPECT_LT(range_loss(problem(), best, team_), 0.1 * range_loss(problem(), full, team_));
}

TEST_F(Ranges, QuantilesLeaveTheirShareOutside) {
  for (double q : {0.95, 0.99, 0.999}) {
    const QuantParams p = find({RangeMethod::kQuantile, q});
    size_t above = 0, below = 0;
    for (float v : x_) {
      above += v > p.scale * (127 - p.offset + 0.5f);
      below += v < p.scale * (-128 - p.offset - 0.5f);
    }
    // Bins of a 4096th of about 8, under a density below 0.4, hold up to 0.0008 of the values.
    const double outside = 1 - q, all = static_cast<double>(x_.size());
    EXPECT_NEAR(static_cast<double>(above) / all, outside, 0.0008 + 0.1 * outside) << q;
    EXPECT_NEAR(static_cast<double>(below) / all, outside, 0.0008 + 0.1 * outside) << q;
  }
  const QuantParams one = find({RangeMethod::kQuantile, 1.0}), full = find({RangeMethod::kMinMax});
  EXPECT_NEAR(one.scale, full.scale, 1e-5);
}

TEST_F(Ranges, MarginsWiden) {
  for (RangeMethod m : {RangeMethod::kMinMax, RangeMethod::kQuantile, RangeMethod::kSearch})
    EXPECT_NEAR(find({m, 0.999, 1.5}).scale, 1.5f * find({m, 0.999, 1}).scale, 1e-6f);
}

TEST_F(Ranges, AMarginIsFoundWhereFoldsDiffer) {
  // All folds alike: what a range of the others clips of one is less than a wider step costs.
  EXPECT_LT(find({RangeMethod::kSearch, 0, {}}).scale,
            1.06f * find({RangeMethod::kSearch, 0, 1}).scale);
  // Every fold has some values of its own, larger from fold to fold.
  for (size_t t = 0; t < kSamples; t += 4)
    x_[t * kWidth] = 4.0f + 3.0f * static_cast<float>(fold_[t]) + x_[t * kWidth];
  EXPECT_GT(find({RangeMethod::kSearch, 0, {}}).scale,
            1.15f * find({RangeMethod::kSearch, 0, 1}).scale);
}

TEST_F(Ranges, InputsWithoutValuesHaveAScale) {
  std::fill(x_.begin(), x_.end(), 0.0f);
  for (RangeMethod m : {RangeMethod::kMinMax, RangeMethod::kQuantile, RangeMethod::kSearch})
    EXPECT_GT(find({m}).scale, 0);
}

}  // namespace
}  // namespace octet
