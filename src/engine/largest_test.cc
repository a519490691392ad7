// The choices that come first, found by bounds, against sorting all logits; and that a sampler
// draws the same token from them.
#include "src/engine/largest.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <random>

#include "src/base/float16.h"
#include "src/engine/sampler.h"
#include "src/model/head_screen.h"

namespace octet {
namespace {

class LargestTest : public testing::Test {
 protected:
  static constexpr size_t kInputs = 80;  // no multiple of what a set pads to

  float normal() { return normal_(random_); }

  void load(size_t n, const std::function<float(size_t, size_t)>& weight) {
    n_ = n;
    std::vector<bf16> stored(n * kInputs);
    w_.resize(stored.size());
    for (size_t i = 0; i < stored.size(); ++i) {
      stored[i] = to_bf16(weight(i / kInputs, i % kInputs));
      w_[i] = to_float(stored[i]);
    }
    linear_.emplace(stored.data(), kernels::FloatType::kBF16, n, kInputs, std::vector<float>(),
                    team_);
    screen_.emplace(contiguous_rows(w_.data(), kInputs * sizeof(float)), n, kInputs, team_);
    screen_->make_room(1);
  }

  // A step of the head on x [kInputs].
  void compute(const std::vector<float>& x) {
    x_ = x;
    bounds_.assign(n_, 0);
    logits_.assign(n_, 0);
    StageBuffer buffer(1, kInputs, 1);
    screen_->stage(0, x_.data(), buffer);
    team_.run([&](Worker& w) {
      screen_->bound(w, 0, 1, {bounds_.data(), n_}, buffer);
      linear_->compute(w, {x_.data(), kInputs, 1}, {logits_.data(), n_}, buffer, 0);
    });
  }

  std::vector<float> any_input() {
    std::vector<float> x(kInputs);
    for (float& v : x) v = normal();
    return x;
  }

  std::vector<Choice> found(size_t count, const LogitRules& rules) {
    std::vector<float> bounds = bounds_;
    return largest_choices(bounds, ExactLogits(*linear_, x_.data()), count, rules);
  }

  void expect_first(size_t count, const LogitRules& rules) {
    std::vector<float> logits = logits_;
    rules.apply(logits);
    std::vector<Choice> want;
    for (size_t i = 0; i < n_; ++i)
      if (logits[i] > kMasked) want.push_back({static_cast<int32_t>(i), logits[i]});
    std::ranges::sort(want, comes_before);
    want.resize(std::min(want.size(), count));
    std::vector<Choice> got = found(count, rules);
    std::ranges::sort(got, comes_before);
    ASSERT_GE(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      EXPECT_EQ(got[i].token, want[i].token) << "place " << i << " of " << count;
      EXPECT_EQ(got[i].logit, want[i].logit);  // the same bits
    }
    for (size_t i = 1; i < got.size(); ++i) EXPECT_NE(got[i].token, got[i - 1].token);
  }

  ThreadTeam team_{2};
  std::mt19937 random_{11};
  std::normal_distribution<float> normal_;
  size_t n_ = 0;
  std::vector<float> w_, x_, bounds_, logits_;
  std::optional<FloatLinear> linear_;
  std::optional<HeadScreen> screen_;
};

SamplingParams with_every_rule() {
  SamplingParams p;
  p.repetition_penalty = 1.3;
  p.frequency_penalty = 0.5;
  p.presence_penalty = -0.75;
  p.logit_bias = {{0, 3.0f}, {5, -8.0f}, {300, 9.0f}, {899, 9.5f}};
  p.bad_words = {{7}, {4, 4}};
  p.min_tokens = 3;
  p.stop_token_ids = {300, 8};
  return p;
}

TEST_F(LargestTest, AreThoseOfAllLogits) {
  load(900, [&](size_t, size_t) { return normal(); });
  const std::vector<int32_t> prompt = {1, 2, 3, 300, 899};
  SamplingParams held = with_every_rule();
  std::vector<int32_t> allowed;
  for (int32_t id = 2; id < 900; id += 31) allowed.push_back(id);
  held.allowed_token_ids = allowed;
  LogitRules none({}, {}, {}), all(with_every_rule(), prompt, {9}), few(held, prompt, {9});
  for (int step = 0; step < 20; ++step) {
    compute(any_input());
    for (size_t count : {1, 2, 20, 64, 256, 2000})
      for (const LogitRules* rules : {&none, &all, &few}) expect_first(count, *rules);
    const int32_t token = step % 2 == 0 ? 4 : 64 + step;
    for (LogitRules* rules : {&all, &few}) rules->add(token);
  }
}

TEST_F(LargestTest, OfEqualsTheFirst) {
  const LogitRules none({}, {}, {});
  load(500, [](size_t, size_t) { return 0.5f; });  // all the same
  compute(any_input());
  for (size_t count : {1, 20, 499}) expect_first(count, none);
  load(500, [&](size_t j, size_t) { return j % 50 == 49 ? 0.5f : 0.25f; });
  compute(std::vector<float>(kInputs, 1.0f));
  for (size_t count : {1, 3, 10, 11}) expect_first(count, none);
  compute(std::vector<float>(kInputs));  // zeros
  for (size_t count : {1, 20}) expect_first(count, none);
}

TEST_F(LargestTest, NothingWhereAllIsMasked) {
  load(100, [&](size_t, size_t) { return normal(); });
  compute(any_input());
  SamplingParams p;
  p.allowed_token_ids = {7};
  p.bad_words = {{7}};
  EXPECT_TRUE(found(1, LogitRules(p, {}, {})).empty());
  EXPECT_FALSE(Sampler(p, {}, {}).sample(std::vector<Choice>()));
}

// Few are computed: of 20000 outputs with logits of deviation 8, a bound of 2 % of |w| |x| = 64
// leaves some.
TEST_F(LargestTest, MostGroupsAreNotComputed) {
  load(20000, [&](size_t, size_t) { return normal(); });
  const LogitRules none({}, {}, {});
  for (int step = 0; step < 10; ++step) {
    compute(any_input());
    EXPECT_LT(found(1, none).size(), 20u);
    EXPECT_LT(found(20, none).size(), 300u);
  }
}

// The same seed, the same tokens, whichever way.
TEST_F(LargestTest, TheSamplerDrawsTheSameTokens) {
  load(900, [&](size_t, size_t) { return normal() * 0.2f; });
  std::vector<SamplingParams> kinds(6);
  kinds[0].temperature = 0;
  kinds[1].top_k = 20;
  kinds[2].top_k = 256;
  kinds[2].top_p = 0.7;
  kinds[3] = with_every_rule();
  kinds[3].top_k = 3;
  kinds[3].min_p = 0.4;
  kinds[3].temperature = 0.7;
  kinds[4] = with_every_rule();
  kinds[4].temperature = 0;
  kinds[5].top_k = 40;
  kinds[5].temperature = 0.01;  // weights that are zero as numbers
  const std::vector<int32_t> prompt = {1, 2, 3};
  for (SamplingParams& p : kinds) {
    p.seed = 3;
    Sampler whole(p, prompt, {}), screened(p, prompt, {});
    ASSERT_GT(whole.wanted(), 0u);
    for (int step = 0; step < 300; ++step) {
      compute(any_input());
      std::vector<float> logits = logits_;
      const auto want = whole.sample(logits, nullptr);
      ASSERT_EQ(screened.sample(found(screened.wanted(), screened.rules())), want) << step;
    }
  }
}

TEST(Sampler, WhichLogitsDecide) {
  SamplingParams p;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 0u);
  p.top_p = 0.5;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 0u);
  p.top_k = 256;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 256u);
  p.top_k = 257;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 0u);
  p.top_k = -1;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 0u);
  p.temperature = 0;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 1u);
  p.logprobs = 0;
  EXPECT_EQ(Sampler(p, {}, {}).wanted(), 0u);
}

}  // namespace
}  // namespace octet
