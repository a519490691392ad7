// What tokens become: text behind the prompt, stop strings, reasons to stop. The engine's tests
// have the rest.
#include "src/engine/sequence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "src/text/testing.h"

namespace octet {
namespace {

const std::vector<int32_t> kEos = {260, 261};

// Feeds `tokens` to a sequence whose sampler must draw them; gathers what comes out.
RequestOutput generate(const text::Tokenizer& tokenizer, std::vector<int32_t> prompt,
                       SamplingParams p, const std::vector<int32_t>& tokens) {
  p.temperature = 0;
  Sequence s(1, {std::move(prompt), p, nullptr}, &tokenizer, kEos);
  RequestOutput all;
  for (const int32_t token : tokens) {
    std::vector<float> logits(300, 0.0f);
    logits[static_cast<size_t>(token)] = 1;
    EXPECT_EQ(s.sampler.sample(logits, nullptr), token);
    const RequestOutput out = s.accept(token, {}, kEos);
    all.text += out.text;
    all.tokens.push_back(token);
    all.finish = out.finish;
    all.stop_reason = out.stop_reason;
    if (out.finish) break;
  }
  return all;
}

SamplingParams at_most(size_t tokens) {
  SamplingParams p;
  p.max_tokens = tokens;
  return p;
}

TEST(Sequence, TheFirstWordKeepsItsSpace) {
  const auto t = text::tests::byte_fallback_tokenizer();
  EXPECT_EQ(generate(t, {0}, at_most(2), {1, 2}).text, " world!");
  SamplingParams p = at_most(2);
  p.stop = {" world"};
  const RequestOutput out = generate(t, {0}, p, {1, 2});
  EXPECT_EQ(out.text, "");
  EXPECT_EQ(out.stop_reason, (decltype(out.stop_reason)(std::string(" world"))));
}

TEST(Sequence, AStopStringInWhatIsHeldBack) {
  const auto t = text::tests::byte_level_tokenizer();
  SamplingParams p = at_most(5);
  p.stop = {"\uFFFD"};
  // Five broken bytes: at the end two are shown.
  const RequestOutput out = generate(t, {'a'}, p, std::vector<int32_t>(5, 0xFF));
  EXPECT_EQ(out.text, "");
  EXPECT_EQ(out.finish, FinishReason::kStop);
  EXPECT_EQ(out.stop_reason, (decltype(out.stop_reason)(std::string("\uFFFD"))));
}

TEST(Sequence, CharactersAtBothEnds) {
  const auto t = text::tests::byte_level_tokenizer();
  EXPECT_EQ(generate(t, {'a', 0xE4, 0xBD}, at_most(3), {0xA0, '!', 0xE4}).text, "\u4f60!");
}

TEST(Sequence, AStopStringAcrossTheMinimum) {
  const auto t = text::tests::byte_level_tokenizer();
  SamplingParams p = at_most(6);
  p.min_tokens = 3;
  p.stop = {"bcd", "ab"};  // "ab" is over before
  const RequestOutput out = generate(t, {'x'}, p, {'a', 'b', 'c', 'd', 'e', 'f'});
  EXPECT_EQ(out.text, "a");
  EXPECT_EQ(out.tokens.size(), 4u);
  EXPECT_EQ(out.finish, FinishReason::kStop);
  p.stop = {"bc"};  // ends with the last token of the minimum
  EXPECT_EQ(generate(t, {'x'}, p, {'a', 'b', 'c', 'd'}).tokens.size(), 3u);
}

// vLLM names every eos but the tokenizer's own.
TEST(Sequence, WhyItStopped) {
  const auto t = text::tests::byte_level_tokenizer();
  const auto reason = [&](SamplingParams p, int32_t token) {
    const RequestOutput out = generate(t, {'x'}, std::move(p), {token});
    EXPECT_EQ(out.finish, FinishReason::kStop);
    EXPECT_EQ(out.text, "");
    const int32_t* id = std::get_if<int32_t>(&out.stop_reason);
    return id == nullptr ? -1 : *id;
  };
  SamplingParams p = at_most(9);
  EXPECT_EQ(reason(p, 260), -1);
  EXPECT_EQ(reason(p, 261), 261);
  p.stop_token_ids = {'q', 260};
  EXPECT_EQ(reason(p, 'q'), 'q');
  EXPECT_EQ(reason(p, 260), -1);
  p.ignore_eos = true;
  EXPECT_EQ(reason(p, 260), 260);
}

}  // namespace
}  // namespace octet
