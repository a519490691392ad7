#include "src/quant/layerwise/input_channels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

namespace octet {
namespace {

constexpr size_t kPositions = 400, kChannels = 40, kOutputs = 24;

class InputChannels : public ::testing::Test {
 protected:
  InputChannels() : x_(kPositions * kChannels), weight_(kPositions, 1.0f), fold_(kPositions) {
    std::mt19937 engine(5);
    std::normal_distribution<float> normal;
    for (float& v : x_) v = normal(engine);
    for (size_t t = 0; t < kPositions; ++t) {
      fold_[t] = static_cast<uint8_t>(t % kFolds);
      x_[t * kChannels + 3] *= 100;  // an outlier channel
    }
    down_.shape = {kOutputs, kChannels, false};
    down_.w.resize(kOutputs * kChannels);
    for (float& v : down_.w) v = normal(engine);
  }
  ChannelInputs inputs() const {
    return {x_.data(), kPositions, kChannels, weight_, fold_, &down_};
  }
  ChannelPlan plan(size_t copies) {
    return plan_static(inputs(), {copies, 0.5, 0.15, 1, false}, DType::kBF16, team_, *alone_);
  }
  // sum_t sum_c |W_c|^2 e^2 of what the copies' integers add up to; `params`: none per token.
  double measured_error(const ChannelPlan& p) const {
    std::vector<double> norm(kChannels, 0.0);
    for (size_t i = 0; i < down_.w.size(); ++i)
      norm[i % kChannels] += double{down_.w[i]} * down_.w[i];
    double sum = 0;
    for (size_t t = 0; t < kPositions; ++t) {
      std::vector<float> scaled;
      float top = 0;
      for (size_t i = 0; i < p.split.source.size(); ++i) {
        const size_t c = p.split.source[i];
        scaled.push_back(x_[t * kChannels + c] / p.scale[c] * p.split.share[i]);
        top = std::max(top, std::fabs(scaled.back()));
      }
      const float scale = p.params ? p.params->scale : top / 127;
      const float offset = p.params ? p.params->offset : 0;
      std::vector<double> error(kChannels, 0.0);
      for (size_t i = 0; i < scaled.size(); ++i) {
        const size_t c = p.split.source[i];
        const float q = std::clamp(std::nearbyint(scaled[i] / scale) + offset, -128.0f, 127.0f);
        error[c] += double{((q - offset) * scale - scaled[i]) * p.scale[c]};
      }
      for (size_t c = 0; c < kChannels; ++c) sum += norm[c] * error[c] * error[c];
    }
    return sum;
  }
  ThreadTeam team_{2};
  std::unique_ptr<Communicator> alone_ = solo_communicator();
  std::vector<float> x_, weight_;
  std::vector<uint8_t> fold_;
  FloatWeight down_;
};

TEST_F(InputChannels, CopiesAreGivenOutAndAddUp) {
  const ChannelPlan p = plan(8);
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

TEST_F(InputChannels, TheErrorIsTheExpectedOne) {
  for (size_t copies : {size_t{0}, size_t{8}}) {
    // The plan counts what other text would clip besides.
    const ChannelPlan fixed = plan(copies);
    EXPECT_LT(measured_error(fixed), 1.2 * fixed.error) << copies;
    EXPECT_GT(measured_error(fixed), 0.4 * fixed.error) << copies;
    const ChannelPlan dynamic = plan_dynamic(inputs(), {copies, 0.5, 0.15, 1, false}, team_);
    EXPECT_FALSE(dynamic.params);
    EXPECT_NEAR(measured_error(dynamic), dynamic.error, 0.01 * dynamic.error) << copies;
  }
}

TEST_F(InputChannels, BeatOneScaleForAllChannels) {
  ChannelPlan plain;
  plain.scale.assign(kChannels, 1);
  float top = 0;
  for (float v : x_) top = std::max(top, std::fabs(v));
  for (size_t c = 0; c < kChannels; ++c) plain.split.source.push_back(c);
  plain.split.share.assign(kChannels, 1);
  const double per_token = measured_error(plain);
  plain.params = QuantParams{top / 127, 0};
  EXPECT_LT(measured_error(plan(0)), 0.1 * measured_error(plain));
  EXPECT_LT(measured_error(plan_dynamic(inputs(), {0, 0.5, 0.15, 1, false}, team_)),
            0.5 * per_token);
}

TEST_F(InputChannels, LongTailsGetMoreLevels) {
  for (float& v : x_)
    if (v < 0) v *= 0.1f;
  for (size_t t = 0; t < kPositions; ++t) x_[t * kChannels + 5] *= -1;
  const ChannelPlan p = plan(0);
  ASSERT_TRUE(p.params);
  EXPECT_LT(p.params->offset, -20);
  for (size_t c = 0; c < kChannels; ++c) EXPECT_EQ(p.scale[c] < 0, c == 5) << c;
}

TEST_F(InputChannels, OneTokenIsEnough) {
  for (const bool center : {false, true}) {
    const ChannelInputs one{x_.data(), 1, kChannels, weight_, std::span(fold_).first(1), &down_};
    const ChannelPlan p = plan_static(one, {0, 0.5, 0.15, 1, center}, DType::kF16, team_, *alone_);
    ASSERT_TRUE(p.params);
    EXPECT_GT(p.params->scale, 0);
    for (float s : p.scale) {
      EXPECT_TRUE(std::isfinite(s));
      EXPECT_NE(s, 0);
    }
  }
}

TEST_F(InputChannels, ChannelsThatNeverMoveKeepFiniteScales) {
  for (size_t t = 0; t < kPositions; ++t) x_[t * kChannels + 9] = 0;
  const ChannelPlan p = plan(4);
  for (float s : p.scale) {
    EXPECT_TRUE(std::isfinite(s));
    EXPECT_NE(s, 0);
  }
}

}  // namespace
}  // namespace octet
