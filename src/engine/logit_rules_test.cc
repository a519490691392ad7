// The two ways to apply the rules agree to the bit, and no rule turns the order of two logits
// around. What each rule does is in sampler_test.cc.
#include "src/engine/logit_rules.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

namespace octet {
namespace {

constexpr size_t kVocab = 40;

// Every rule alone, and all together, three tokens into a text.
std::vector<LogitRules> all_rules() {
  std::vector<SamplingParams> params(8);
  params[1].repetition_penalty = 1.7;
  params[2].repetition_penalty = 0.01;
  params[3].frequency_penalty = -1.5;
  params[3].presence_penalty = 0.3;
  params[4].logit_bias = {{0, 100.0f}, {3, -0.1f}, {39, -100.0f}};
  params[5].allowed_token_ids = {0, 3, 4, 38};
  params[6].bad_words = {{3}, {5, 7}, {5, 8}, {7, 5, 9}};
  params[6].min_tokens = 4;
  params[6].stop_token_ids = {20, 1};
  params[7] = params[6];
  params[7].repetition_penalty = 1.1;
  params[7].frequency_penalty = 0.7;
  params[7].logit_bias = params[4].logit_bias;
  params[7].allowed_token_ids = {0, 3, 4, 5, 7, 8, 20, 39};
  std::vector<LogitRules> out;
  for (const SamplingParams& p : params) {
    LogitRules& rules =
        out.emplace_back(p, std::vector<int32_t>{3, 3, 4}, std::vector<int32_t>{2, 999});
    for (int32_t token : {7, 5, 5}) rules.add(token);
  }
  return out;
}

TEST(LogitRules, OneTokenAsAllOfThem) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0, 5);
  for (const LogitRules& rules : all_rules()) {
    std::vector<float> logits(kVocab);
    for (float& l : logits) l = normal(random);
    std::vector<float> all = logits;
    rules.apply(all);
    for (size_t id = 0; id < kVocab; ++id)
      EXPECT_EQ(rules.apply(static_cast<int32_t>(id), logits[id]), all[id]) << id;
  }
}

TEST(LogitRules, SayWhetherTheyChangeAnything) {
  const std::vector<LogitRules> rules = all_rules();
  EXPECT_FALSE(rules[0].any());
  for (size_t i = 1; i < rules.size(); ++i) EXPECT_TRUE(rules[i].any()) << i;
  for (size_t i = 0; i < rules.size(); ++i) EXPECT_EQ(rules[i].masks(), i >= 5) << i;
}

TEST(LogitRules, KeepTheOrderOfTwoLogits) {
  std::vector<float> ascending = {-1e29f, -50.0f, -1.0f, -1e-30f, -0.0f, 0.0f, 1e-30f, 0.5f};
  for (int i = 0; i < 100; ++i) ascending.push_back(std::nextafter(ascending.back(), INFINITY));
  ascending.push_back(1e29f);
  for (const LogitRules& rules : all_rules())
    for (size_t id = 0; id < kVocab; ++id)
      for (size_t i = 1; i < ascending.size(); ++i)
        EXPECT_LE(rules.apply(static_cast<int32_t>(id), ascending[i - 1]),
                  rules.apply(static_cast<int32_t>(id), ascending[i]))
            << id << ": " << ascending[i];
}

}  // namespace
}  // namespace octet
