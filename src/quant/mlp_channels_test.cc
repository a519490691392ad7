#include "src/quant/mlp_channels.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace octet {
namespace {

constexpr size_t kTokens = 400, kChannels = 40, kOutputs = 24;

class MlpChannels : public ::testing::Test {
 protected:
  MlpChannels() : x_(kTokens * kChannels), weight_(kTokens, 1.0f), fold_(kTokens) {
    std::mt19937 engine(5);
    std::normal_distribution<float> normal;
    for (float& v : x_) v = normal(engine);
    for (size_t t = 0; t < kTokens; ++t) {
      fold_[t] = static_cast<uint8_t>(t % kFolds);
      x_[t * kChannels + 3] *= 100;  // an outlier channel
    }
    down_.shape = {kOutputs, kChannels, false};
    down_.w.resize(kOutputs * kChannels);
    for (float& v : down_.w) v = normal(engine);
  }
  MlpPlan plan(size_t copies) {
    return plan_mlp_channels({x_.data(), kTokens, kChannels, weight_, fold_, &down_},
                             {copies, 0.5, 0.15}, team_);
  }
  ThreadTeam team_{2};
  std::vector<float> x_, weight_;
  std::vector<uint8_t> fold_;
  FloatWeight down_;
};

TEST_F(MlpChannels, CopiesAreGivenOutAndAddUp) {
  const MlpPlan p = plan(8);
  ASSERT_EQ(p.split.source.size(), kChannels + 8);
  std::vector<double> sum(kChannels, 0.0);
  std::vector<size_t> copies(kChannels, 0);
  for (size_t i = 0; i < p.split.source.size(); ++i) {
    sum[p.split.source[i]] += p.split.share[i];
    ++copies[p.split.source[i]];
  }
  for (double s : sum) EXPECT_NEAR(s, 1, 1e-5);
  EXPECT_GE(copies[3], 5u);  // the outlier dominates the rows of down once it is scaled
}

TEST_F(MlpChannels, OneRangeHoldsEveryChannel) {
  for (size_t copies : {size_t{0}, size_t{8}}) {
    const MlpPlan p = plan(copies);
    EXPECT_GE(p.margin, 0.7);
    for (size_t i = 0; i < p.split.source.size(); ++i) {
      const size_t c = p.split.source[i];
      float top = 0;
      for (size_t t = 0; t < kTokens; ++t)
        top = std::max(top, std::fabs(x_[t * kChannels + c]) / p.scale[c] * p.split.share[i]);
      // Unequal shares reach 15 % above an equal one.
      EXPECT_LE(top, 1.16 * p.range / p.margin) << c;
      EXPECT_GE(top, 0.84 * p.range / p.margin) << c;
    }
  }
}

TEST_F(MlpChannels, ChannelsThatNeverMoveKeepFiniteScales) {
  for (size_t t = 0; t < kTokens; ++t) x_[t * kChannels + 9] = 0;
  const MlpPlan p = plan(4);
  for (float s : p.scale) {
    EXPECT_TRUE(std::isfinite(s));
    EXPECT_GT(s, 0);
  }
  EXPECT_TRUE(std::isfinite(p.range));
}

}  // namespace
}  // namespace octet
