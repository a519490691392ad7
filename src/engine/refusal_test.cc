// What is refused before it runs, with the numbers that say why.
#include "src/engine/refusal.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>

namespace octet {
namespace {

using Field = Refusal::Field;
using Reason = Refusal::Reason;

Request good() {
  Request r;
  r.prompt = {1, 2, 3};
  return r;
}

std::optional<Refusal> check(const Request& request, bool has_tokenizer = true) {
  static constexpr std::array<int32_t, 2> kEos = {7, 8};
  return refusal_of(request, {/*vocab=*/100, /*max_model_len=*/40, has_tokenizer, kEos});
}

TEST(Refusal, NothingIsWrong) {
  Request r = good();
  EXPECT_FALSE(check(r));
  r.sampling.max_tokens = 37;  // exactly the context
  r.sampling.stop = {"x"};
  r.sampling.logit_bias = {{99, -1e6f}};
  r.sampling.bad_words = {{0, 99}};
  EXPECT_FALSE(check(r));
}

TEST(Refusal, IdsOutsideTheVocabulary) {
  for (const int32_t id : {-1, 100}) {
    Request r = good();
    r.prompt.push_back(id);
    const auto why = check(r);
    ASSERT_TRUE(why);
    EXPECT_EQ(why->reason, Reason::kUnknownToken);
    EXPECT_EQ(why->field, Field::kPrompt);
    EXPECT_EQ(why->found, id);
    EXPECT_EQ(why->least, 0);
    EXPECT_EQ(why->most, 99);
  }
  Request r = good();
  r.sampling.allowed_token_ids = {100};
  EXPECT_EQ(check(r)->field, Field::kAllowedTokens);
}

TEST(Refusal, NumbersOutsideTheirRange) {
  Request r = good();
  r.sampling.min_p = 1.5;
  const auto why = check(r);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->reason, Reason::kOutOfRange);
  EXPECT_EQ(why->field, Field::kMinP);
  EXPECT_EQ(why->found, 1.5);
  EXPECT_EQ(why->most, 1);
  r = good();
  r.sampling.presence_penalty = NAN;
  EXPECT_EQ(check(r)->field, Field::kPresencePenalty);
  r = good();
  r.sampling.logit_bias = {{5, INFINITY}};
  EXPECT_EQ(check(r)->field, Field::kLogitBias);
  EXPECT_EQ(check(r)->reason, Reason::kOutOfRange);
}

TEST(Refusal, Lengths) {
  Request r = good();
  r.sampling.max_tokens = 38;
  const auto why = check(r);
  ASSERT_TRUE(why);
  EXPECT_EQ(why->reason, Reason::kTooLong);
  EXPECT_EQ(why->prompt_tokens, 3u);
  EXPECT_EQ(why->output_tokens, 38u);
  EXPECT_EQ(why->max_model_len, 40u);
  r.sampling.max_tokens = 0;
  EXPECT_EQ(check(r)->reason, Reason::kNoOutput);
  r = good();
  r.prompt.clear();
  EXPECT_EQ(check(r)->reason, Reason::kEmpty);
}

TEST(Refusal, StopStringsNeedATokenizer) {
  Request r = good();
  r.sampling.stop = {"x"};
  EXPECT_EQ(check(r, false)->reason, Reason::kNoTokenizer);
}

TEST(Refusal, AllowedTokensOfWhichNoneIsLeft) {
  Request r = good();
  SamplingParams& p = r.sampling;
  p.allowed_token_ids = {7, 8, 9};
  p.bad_words = {{9}, {1, 7}};
  EXPECT_FALSE(check(r));
  p.min_tokens = 1;
  EXPECT_EQ(check(r)->reason, Reason::kNothingLeft);
  EXPECT_EQ(check(r)->field, Field::kAllowedTokens);
  p.bad_words = {};
  EXPECT_FALSE(check(r));
  p.stop_token_ids = {9};
  EXPECT_EQ(check(r)->reason, Reason::kNothingLeft);
}

TEST(Refusal, TheFirstThingIsNamed) {
  Request r = good();
  r.prompt = {100};
  r.sampling.top_p = 0;
  r.sampling.max_tokens = 0;
  EXPECT_EQ(check(r)->field, Field::kPrompt);
  r.prompt = {1};
  EXPECT_EQ(check(r)->field, Field::kTopP);
  r.sampling.top_p = 1;
  EXPECT_EQ(check(r)->field, Field::kMaxTokens);
}

}  // namespace
}  // namespace octet
