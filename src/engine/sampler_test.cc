// What the sampler does to logits, and how often it draws what. Expected numbers are those of the
// published definitions (temperature, top-k, top-p, min-p; the penalties as the OpenAI API and CTRL
// define them), worked out by hand for the distribution 0.1, 0.2, 0.3, 0.4.
#include "src/engine/sampler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>

namespace octet {
namespace {

using ::testing::ElementsAre;
constexpr float kOut = -INFINITY;  // a masked token

// Logits of tokens 0 to 3 with probabilities 0.1, 0.2, 0.3, 0.4: any constant may be added.
std::vector<float> tenths() {
  return {std::log(1.0f) + 5, std::log(2.0f) + 5, std::log(3.0f) + 5, std::log(4.0f) + 5};
}

SamplingParams seeded() {
  SamplingParams p;
  p.seed = 7;
  return p;
}

// The shares of the tokens in many draws from `tenths`.
constexpr int kDraws = 40000;
std::vector<double> shares(const SamplingParams& p) {
  Sampler sampler(p, {}, {});
  std::vector<double> share(4);
  for (int i = 0; i < kDraws; ++i) {
    std::vector<float> logits = tenths();
    share[static_cast<size_t>(*sampler.sample(logits, nullptr))] += 1.0 / kDraws;
  }
  return share;
}

// A share of probability p has the standard deviation sqrt(p (1 - p) / kDraws); five of them are
// left for chance. What has probability 0 or 1 leaves none.
void expect_shares(const SamplingParams& p, const std::vector<double>& weights) {
  const std::vector<double> share = shares(p);
  double total = 0;
  for (double w : weights) total += w;
  for (size_t i = 0; i < 4; ++i) {
    const double want = weights[i] / total;
    EXPECT_NEAR(share[i], want, 5 * std::sqrt(want * (1 - want) / kDraws) + 1e-9) << "token " << i;
  }
}

// The logits that `sampler` makes of `logits`, and the token it takes.
std::pair<std::vector<float>, int32_t> step(Sampler& sampler, std::vector<float> logits) {
  const int32_t token = sampler.sample(logits, nullptr).value();
  return {logits, token};
}

SamplingParams greedy() {
  SamplingParams p;
  p.temperature = 0;
  return p;
}

TEST(Sampler, TemperatureZeroTakesTheLikeliest) {
  SamplingParams p = greedy();
  p.top_k = 3;  // none of these counts
  p.top_p = 0.1;
  p.min_p = 0.9;
  Sampler sampler(p, {}, {});
  EXPECT_EQ(step(sampler, {1, 3, -2, 2.9f}).second, 1);
  EXPECT_EQ(step(sampler, {-7, -3, -3, -5}).second, 1);  // of equals the first
  EXPECT_EQ(step(sampler, {kOut, kOut, -3, kOut}).second, 2);
  EXPECT_THAT(sampler.output(), ElementsAre(1, 1, 2));
  Sampler plain(greedy(), {}, {});
  for (int i = 0; i < 32; ++i) EXPECT_EQ(step(plain, {1, 2, 2, 2}).second, 1);
}

TEST(Sampler, TemperatureIsAPowerOfTheProbabilities) {
  SamplingParams p = seeded();
  expect_shares(p, {1, 2, 3, 4});
  p.temperature = 0.5;
  expect_shares(p, {1, 4, 9, 16});
  p.temperature = 2;
  expect_shares(p, {1, std::sqrt(2), std::sqrt(3), 2});
}

TEST(Sampler, TopK) {
  SamplingParams p = seeded();
  p.top_k = 1;
  expect_shares(p, {0, 0, 0, 1});
  p.top_k = 2;
  expect_shares(p, {0, 0, 3, 4});
  for (const int64_t all : {0, 4, 1000}) {
    p.top_k = all;
    expect_shares(p, {1, 2, 3, 4});
  }
}

TEST(Sampler, TopPKeepsTheFewestThatReachIt) {
  SamplingParams p = seeded();
  for (const auto& [top_p, weights] :
       std::vector<std::pair<double, std::vector<double>>>{{1e-6, {0, 0, 0, 1}},
                                                           {0.39, {0, 0, 0, 1}},
                                                           {0.41, {0, 0, 3, 4}},
                                                           {0.69, {0, 0, 3, 4}},
                                                           {0.71, {0, 2, 3, 4}},
                                                           {0.91, {1, 2, 3, 4}}}) {
    SCOPED_TRACE(top_p);
    p.top_p = top_p;
    expect_shares(p, weights);
  }
}

// Half the mass of 301 equal tokens and some that are next to nothing: the first 151 of them.
TEST(Sampler, TopPOfManyTokens) {
  SamplingParams p = seeded();
  p.top_p = 0.5;
  Sampler sampler(p, {}, {});
  std::set<int32_t> drawn;
  for (int i = 0; i < 6000; ++i) {  // one of 151 is missed with probability 151 exp(-6000 / 151)
    std::vector<float> logits(1000, -60.0f);
    for (size_t id = 500; id < 801; ++id) logits[id] = 2.0f;
    drawn.insert(sampler.sample(logits, nullptr).value());
  }
  EXPECT_EQ(drawn.size(), 151u);
  EXPECT_EQ(*drawn.begin(), 500);
  EXPECT_EQ(*drawn.rbegin(), 650);
}

// Every draw against the distribution function in double, at the number that the generator gives.
TEST(Sampler, DrawsByTheInverseOfTheDistribution) {
  constexpr size_t kVocabulary = 3001;
  for (const double temperature : {0.3, 1.0, 2.0}) {
    SamplingParams p = seeded();
    p.temperature = temperature;
    Sampler sampler(p, {}, {});
    std::mt19937_64 numbers(static_cast<uint64_t>(*p.seed)), rng(3);
    std::normal_distribution<float> normal(0, 4);
    for (int draw = 0; draw < 300; ++draw) {
      std::vector<float> logits(kVocabulary);
      for (float& l : logits) l = rng() % 5 == 0 ? kOut : normal(rng);
      std::vector<double> below(kVocabulary + 1);
      const double max = *std::max_element(logits.begin(), logits.end());
      for (size_t i = 0; i < kVocabulary; ++i)
        below[i + 1] = below[i] + std::exp((logits[i] - max) / temperature);
      const double u = static_cast<double>(numbers() >> 11) * 0x1p-53 * below.back();
      const std::vector<float> before = logits;
      const size_t token = static_cast<size_t>(*sampler.sample(logits, nullptr));
      EXPECT_NE(before[token], kOut);
      // (l - max) / temperature below 87 is rounded twice in float, the exponential to 2 ulp.
      const double bound = (2 * 87 + 5) * 0x1p-24 * below.back();
      EXPECT_LE(below[token], u + bound);
      EXPECT_GE(below[token + 1], u - bound);
    }
  }
}

// However flat, what is masked stays out.
TEST(Sampler, HugeTemperaturesDrawNothingThatIsMasked) {
  for (const double temperature : {1e9, 1e46, 1.7e308})
    for (const double top_p : {1.0, 0.9}) {
      SamplingParams p = seeded();
      p.temperature = temperature;
      p.top_p = top_p;
      Sampler sampler(p, {}, {});
      std::set<int32_t> drawn;
      for (int i = 0; i < 400; ++i) {
        std::vector<float> logits(1000, kOut);
        for (size_t id = 700; id < 710; ++id) logits[id] = static_cast<float>(id % 7);
        drawn.insert(sampler.sample(logits, nullptr).value());
      }
      EXPECT_GE(*drawn.begin(), 700);
      EXPECT_LT(*drawn.rbegin(), 710);
      EXPECT_GE(drawn.size(), 9u);
    }
}

// One likely token and thousands that together weigh more: 1 + 5000 * 0.0005 = 3.5, of which 0.9 is
// 3.15, and so the first 4300 of them.
TEST(Sampler, TopPReachesFarDown) {
  SamplingParams p = seeded();
  p.top_p = 0.9;
  Sampler sampler(p, {}, {});
  int32_t largest = 0;
  int likely = 0;
  constexpr int kTimes = 3000;
  for (int i = 0; i < kTimes; ++i) {
    std::vector<float> logits(5001, std::log(5e-4f));
    logits[0] = 0;
    const int32_t token = sampler.sample(logits, nullptr).value();
    largest = std::max(largest, token);
    likely += token == 0 ? 1 : 0;
  }
  // Among 3000 draws one of the last fiftieth is missed with probability (1 - 0.0137)^3000.
  EXPECT_LE(largest, 4301);
  EXPECT_GT(largest, 4214);
  const double want = 1 / 3.15;
  EXPECT_NEAR(likely / double{kTimes}, want, 5 * std::sqrt(want * (1 - want) / kTimes));
}

TEST(Sampler, MinPIsAShareOfTheLikeliest) {
  SamplingParams p = seeded();
  for (const auto& [min_p, weights] :
       std::vector<std::pair<double, std::vector<double>>>{{0.24, {1, 2, 3, 4}},
                                                           {0.26, {0, 2, 3, 4}},
                                                           {0.49, {0, 2, 3, 4}},
                                                           {0.51, {0, 0, 3, 4}},
                                                           {1.0, {0, 0, 0, 1}}}) {
    SCOPED_TRACE(min_p);
    p.min_p = min_p;
    expect_shares(p, weights);
  }
  p.min_p = 0.4;  // after the temperature, which makes the shares 1/16, 4/16, 9/16, 1
  p.temperature = 0.5;
  expect_shares(p, {0, 0, 9, 16});
}

// As in vLLM, top-p is a share of what top-k and min-p have left: 4/9 of three tokens.
TEST(Sampler, TopPComesAfterTopKAndMinP) {
  SamplingParams p = seeded();
  p.top_k = 3;
  p.top_p = 0.43;
  expect_shares(p, {0, 0, 0, 1});
  p.top_p = 0.45;
  expect_shares(p, {0, 0, 3, 4});
  p.top_k = 0;
  p.min_p = 0.3;
  expect_shares(p, {0, 0, 3, 4});
  p.top_p = 0.43;
  expect_shares(p, {0, 0, 0, 1});
}

TEST(Sampler, TheSeedDecides) {
  const auto tokens = [](int64_t seed) {
    SamplingParams p;
    p.seed = seed;
    Sampler sampler(p, {}, {});
    for (int i = 0; i < 64; ++i) step(sampler, tenths());
    return sampler.output();
  };
  EXPECT_EQ(tokens(1), tokens(1));
  EXPECT_NE(tokens(1), tokens(2));  // equal by chance with 0.3^64
  EXPECT_NE(tokens(1), tokens(-1));
}

// l / p above zero, l * p below; once a token, wherever and however often it stands.
TEST(Sampler, RepetitionPenalty) {
  SamplingParams p = greedy();
  p.repetition_penalty = 2;
  const std::vector<int32_t> prompt = {1, 0, 1, 1};
  Sampler sampler(p, prompt, {});
  EXPECT_THAT(step(sampler, {4, -3, 5, 0}).first, ElementsAre(2, -6, 5, 0));  // takes 2
  EXPECT_THAT(step(sampler, {4, -3, 5, 0}).first, ElementsAre(2, -6, 2.5f, 0));
  EXPECT_THAT(step(sampler, {9, -3, 5, 0}).first, ElementsAre(4.5f, -6, 2.5f, 0));  // takes 0
  EXPECT_THAT(step(sampler, {4, -3, 5, 0}).first, ElementsAre(2, -6, 2.5f, 0));
  EXPECT_THAT(sampler.output(), ElementsAre(2, 2, 0, 2));
}

TEST(Sampler, FrequencyAndPresencePenaltiesCountTheOutputOnly) {
  SamplingParams p = greedy();
  p.frequency_penalty = 0.5;
  p.presence_penalty = 0.25;
  const std::vector<int32_t> prompt = {0, 3};
  Sampler sampler(p, prompt, {});
  EXPECT_THAT(step(sampler, {1, 2, 8, 3}).first, ElementsAre(1, 2, 8, 3));
  EXPECT_THAT(step(sampler, {1, 2, 8, 3}).first, ElementsAre(1, 2, 7.25f, 3));
  EXPECT_THAT(step(sampler, {1, 9, 8, 3}).first, ElementsAre(1, 9, 6.75f, 3));
  EXPECT_THAT(step(sampler, {1, 9, 8, 3}).first, ElementsAre(1, 8.25f, 6.75f, 3));
  p.frequency_penalty = p.presence_penalty = -1;  // rewards
  Sampler fond(p, prompt, {});
  step(fond, {1, 2, 8, 3});
  EXPECT_THAT(step(fond, {1, 2, 8, 3}).first, ElementsAre(1, 2, 10, 3));
}

TEST(Sampler, BiasAndAllowedTokens) {
  SamplingParams p = greedy();
  p.logit_bias = {{0, 6.5f}, {1, -1.0f}};
  Sampler biased(p, {}, {});
  EXPECT_THAT(step(biased, {1, 2, 4, 3}).first, ElementsAre(7.5f, 1, 4, 3));
  p.allowed_token_ids = {1, 3};
  Sampler held(p, {}, {});
  EXPECT_THAT(step(held, {1, 2, 4, 3}).first, ElementsAre(kOut, 1, kOut, 3));
  EXPECT_THAT(held.output(), ElementsAre(3));
}

TEST(Sampler, NoEndBeforeMinTokens) {
  SamplingParams p = greedy();
  p.min_tokens = 2;
  p.stop_token_ids = {2};
  Sampler sampler(p, {}, {1, 1000});  // an end token that the model does not have
  EXPECT_THAT(step(sampler, {1, 9, 8, 3}).first, ElementsAre(1, kOut, kOut, 3));
  EXPECT_THAT(step(sampler, {1, 9, 8, 3}).first, ElementsAre(1, kOut, kOut, 3));
  EXPECT_THAT(step(sampler, {1, 9, 8, 3}).first, ElementsAre(1, 9, 8, 3));
  EXPECT_THAT(sampler.output(), ElementsAre(3, 3, 1));
}

TEST(Sampler, BadWordsAreNotCompleted) {
  SamplingParams p = greedy();
  p.bad_words = {{3}, {0, 0, 2}};
  Sampler sampler(p, {}, {});
  EXPECT_THAT(step(sampler, {9, 1, 8, 10}).first, ElementsAre(9, 1, 8, kOut));
  EXPECT_THAT(step(sampler, {9, 1, 8, 10}).first, ElementsAre(9, 1, 8, kOut));
  EXPECT_THAT(step(sampler, {1, 2, 8, 10}).first, ElementsAre(1, 2, kOut, kOut));  // takes 1
  EXPECT_THAT(step(sampler, {1, 2, 8, 10}).first, ElementsAre(1, 2, 8, kOut));
  EXPECT_THAT(sampler.output(), ElementsAre(0, 0, 1, 2));
}

// A logit from 4 to 8 is rounded to 2^-22 and its logarithm was to 2^-24; so much the logarithm of
// the sum can be off as well, and the difference is rounded to 2^-24.
constexpr float kRounding = 2 * (0x1p-22f + 0x1p-24f) + 0x1p-24f;

TEST(Sampler, LogprobsAreThoseOfTheModel) {
  SamplingParams p = greedy();
  p.logit_bias = {{2, 10.0f}};
  p.repetition_penalty = 2;
  p.logprobs = 2;
  const std::vector<int32_t> prompt = {3};
  std::vector<float> logits = tenths();
  TokenLogprob l;
  EXPECT_EQ(Sampler(p, prompt, {}).sample(logits, &l), 2);
  EXPECT_EQ(l.token, 2);
  EXPECT_EQ(l.rank, 2);
  EXPECT_NEAR(l.logprob, std::log(0.3f), kRounding);
  ASSERT_EQ(l.top.size(), 2u);
  EXPECT_EQ(l.top[0].first, 3);
  EXPECT_NEAR(l.top[0].second, std::log(0.4f), kRounding);
  EXPECT_EQ(l.top[1].first, 2);
  EXPECT_NEAR(l.top[1].second, std::log(0.3f), kRounding);
}

TEST(Sampler, LogprobsOfEqualsAndOfMaskedTokens) {
  const std::vector<float> logits = {2, kOut, 2, 2};
  const TokenLogprob l = Sampler::logprob_of(logits, 2, 10);
  EXPECT_EQ(l.rank, 1);
  EXPECT_NEAR(l.logprob, std::log(1 / 3.0f), kRounding);
  ASSERT_EQ(l.top.size(), 4u);
  for (const auto& [i, id] : {std::pair<size_t, int32_t>{0, 0}, {1, 2}, {2, 3}, {3, 1}})
    EXPECT_EQ(l.top[i].first, id);  // of equals the first, masked ones last
  EXPECT_EQ(l.top[3].second, kOut);
  const TokenLogprob masked = Sampler::logprob_of(logits, 1, 0);
  EXPECT_EQ(masked.rank, 4);
  EXPECT_EQ(masked.logprob, kOut);
  EXPECT_TRUE(masked.top.empty());
  EXPECT_EQ(Sampler::logprob_of(std::vector<float>(3, kOut), 0, 0).logprob, kOut);
}

TEST(Sampler, SafeLogits) {
  std::vector<float> logits = {NAN, INFINITY, -INFINITY, 3e38f, -3e38f, 12.5f, -0.0f};
  Sampler::make_safe(logits);
  EXPECT_THAT(logits, ElementsAre(kOut, 1e30f, kOut, 1e30f, kOut, 12.5f, 0.0f));
}

}  // namespace
}  // namespace octet
