#include "src/quant/layerwise/group_quantizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "src/quant/layer/built_linear.h"

namespace octet {
namespace {

constexpr size_t kTokens = 300, kInputs = 48;

class Group : public ::testing::Test {
 protected:
  Group() : x_(kTokens * kInputs), ones_(kTokens, 1.0f) {
    std::mt19937 engine(11);
    std::normal_distribution<float> normal;
    for (float& v : x_) v = normal(engine) + 0.3f;
    for (size_t i = 0; i < 2; ++i) {
      weights_[i].shape = {20 + i, kInputs, true};
      weights_[i].bias.assign(20 + i, 0.5f);
      weights_[i].w.resize((20 + i) * kInputs);
      for (float& v : weights_[i].w) v = normal(engine);
    }
  }
  std::vector<const FloatWeight*> weights() const { return {&weights_[0], &weights_[1]}; }
  GroupInput input() const { return {x_.data(), kTokens, kInputs, ones_, fold_, {}}; }

  std::vector<float> outputs(Linear& linear) {
    std::vector<float> y(kTokens * linear.outputs());
    StageBuffer buffer(kTokens, kInputs, 1);
    team_.run([&](Worker& w) {
      const Rows in = {x_.data(), kInputs, kTokens};
      linear.stage(w, in, buffer, 0);
      w.barrier();
      linear.compute(w, in, {y.data(), linear.outputs()}, buffer, 0);
    });
    return y;
  }

  // Relative root mean square error of the quantized group, and the largest error of a mean output.
  std::pair<double, double> errors(const Recipe& recipe, Scheme scheme) {
    GroupQuantizer groups(recipe, DType::kBF16, team_, *alone_);
    const auto quantized = groups.quantize(input(), weights(), scheme);
    const auto want =
        outputs(*build_linear({"a", "b"}, weights(), {}, Scheme::kFloat, team_, *alone_));
    const auto got =
        outputs(*build_linear({"a", "b"}, weights(), quantized, scheme, team_, *alone_));
    double error = 0, signal = 0, worst = 0;
    const size_t n = want.size() / kTokens;
    for (size_t j = 0; j < n; ++j) {
      double mean = 0;
      for (size_t t = 0; t < kTokens; ++t) {
        const double d = double{got[t * n + j]} - double{want[t * n + j]};
        error += d * d;
        signal += double{want[t * n + j]} * double{want[t * n + j]};
        mean += d / kTokens;
      }
      worst = std::max(worst, std::fabs(mean));
    }
    return {std::sqrt(error / signal), worst};
  }

  ThreadTeam team_{2};
  std::unique_ptr<Communicator> alone_ = solo_communicator();
  std::vector<float> x_, ones_;
  std::vector<uint8_t> fold_ = std::vector<uint8_t>(kTokens, 0);
  FloatWeight weights_[2];
};

TEST_F(Group, StaysCloseToFloat) {
  Recipe r;
  // Rounding noise of 8 bits: inputs in about +-4 sigma, weights in about +-3: 1 % each at most.
  EXPECT_LT(errors(r, Scheme::kW8A8).first, 0.02);
  EXPECT_LT(errors(r, Scheme::kW8A8Dynamic).first, 0.02);
  r.get<RoundWeights>();
  EXPECT_LT(errors(r, Scheme::kW8A8).first, 0.02);
}

TEST_F(Group, BiasCorrectionMakesTheMeansEqual) {
  Recipe r;
  const double before = errors(r, Scheme::kW8A8).second;
  r.get<CorrectBias>().target = BiasTarget::kOwn;
  const double after = errors(r, Scheme::kW8A8).second;
  EXPECT_LT(after, 1e-3);
  EXPECT_LT(after, 0.2 * before);
}

TEST_F(Group, TheInputErrorIsThatOfTheRange) {
  Recipe r;
  GroupQuantizer groups(r, DType::kF32, team_, *alone_);
  const InputError e = groups.input_error(input(), weights());
  // A step of range / 255 makes a mean square error of step^2 / 12 a channel.
  float low = 0, high = 0;
  double norm = 0;
  for (float v : x_) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  for (const FloatWeight& w : weights_)
    for (float v : w.w) norm += double{v} * double{v};
  const double step = double{high - low} / 255;
  EXPECT_LE(e.fixed, 1.05 * kTokens * norm * step * step / 12);
  EXPECT_GE(e.fixed, 0.5 * kTokens * norm * step * step / 12);
  EXPECT_LT(e.per_token, e.fixed);  // each token has a smaller range than all
  EXPECT_GT(e.signal, 1e3 * e.fixed);
}

}  // namespace
}  // namespace octet
