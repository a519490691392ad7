// Perplexity and yes/no accuracy of the tiny models against what transformers computed
// (models/*/expected.json, testdata/eval.json).
#include "src/eval/eval.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"
#include "src/eval/choices.h"
#include "src/eval/summary.h"
#include "src/text/tokenizer.h"

namespace octet {
namespace {

const fs::path kModels = fs::path(OCTET_SOURCE_DIR) / "models";
const fs::path kExpected = fs::path(OCTET_SOURCE_DIR) / "src/eval/testdata/eval.json";

std::vector<json> lines(const char* name) {
  std::vector<json> out;
  for_each_line(read_text(kModels / name),
                [&](size_t, std::string_view line) { out.push_back(parse_json(line, name)); });
  return out;
}

class Eval : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path folder_ = kModels / GetParam();
  json expected_ = parse_json(read_text(folder_ / "expected.json"), "expected.json");
  text::Tokenizer tokenizer_ = text::Tokenizer::load(folder_);
  ThreadTeam team_{2};
  Transformer model_{std::make_shared<ModelFolder>(folder_), team_, {.max_rows = Scorer::kChunk}};
  Scorer scorer_{model_, 512};
};
INSTANTIATE_TEST_SUITE_P(Models, Eval,
                         ::testing::Values("llama3_tiny_bf16", "qwen2_tiny_fp16",
                                           "qwen3_tiny_bf16"));

TEST(Scorer, SaysThatAModelIsBroken) {
  const octet::tests::TempFolder dir("eval_nan");
  octet::tests::EditedModel model("llama_fp16");
  model.at("model.layers.1.mlp.up_proj.weight").data[1] = std::byte{0x7e};  // NaN, of a float16
  model.write(dir.path());
  ThreadTeam team(1);
  Transformer broken(std::make_shared<ModelFolder>(dir.path()), team, {.max_rows = Scorer::kChunk});
  Scorer scorer(broken, 64);
  const std::vector<int32_t> ids = {1, 2, 3};
  const std::string message = octet::tests::message_of([&] { scorer.last_logits(ids); });
  EXPECT_NE(message.find("octet check"), std::string::npos) << message;
}

TEST_P(Eval, PerplexityEqualsTransformers) {
  std::vector<std::vector<int32_t>> texts;
  for (const json& line : lines("text.jsonl"))
    texts.push_back(tokenizer_.encode(line.at("inputs_pretokenized").get<std::string>(), true));
  size_t steps = 0;
  const auto scores = score_texts({&scorer_}, texts, 512, 512, [&] { ++steps; });
  EXPECT_EQ(steps, texts.size());
  EXPECT_EQ(scores[0].size(), texts.size());
  const TextSummary s = summarize(scores[0], scores[0]);
  // A mean over 4e4 tokens of losses that are each right to 1e-4.
  EXPECT_NEAR(s.perplexity.value, expected_.at("perplexity").get<double>(), 1e-4);
  EXPECT_EQ(s.kl.value, 0);
  EXPECT_EQ(s.top1.value, 1);
  EXPECT_EQ(s.top5.value, 1);
  EXPECT_LT(s.perplexity.interval->low, s.perplexity.value);
  EXPECT_GT(s.perplexity.interval->high, s.perplexity.value);
}

TEST_P(Eval, SlidingWindowsEqualTransformers) {
  const json golden = parse_json(read_text(kExpected), "eval.json");
  const auto ids = tokenizer_.encode(golden.at("text").get<std::string>(), true);
  ASSERT_EQ(ids.size(), golden.at(GetParam()).at("tokens").get<size_t>());
  const auto scores = score_texts({&scorer_}, {ids}, golden.at("window").get<size_t>(),
                                  golden.at("stride").get<size_t>(), [] {});
  const TextSummary s = summarize(scores[0], scores[0]);
  EXPECT_EQ(s.tokens, ids.size() - 1);
  EXPECT_NEAR(s.perplexity.value, golden.at(GetParam()).at("perplexity").get<double>(), 1e-4);
}

// Both against lm-eval's rule for the border between question and answer.
TEST_P(Eval, ChoicesEqualTransformers) {
  const json golden = parse_json(read_text(kExpected), "eval.json");
  const json& expected = golden.at(GetParam()).at("likelihoods");
  for (size_t i = 0; i < expected.size(); ++i) {
    const json& q = golden.at("questions")[i];
    const ChoiceText text{q.at("query"), q.at("choices"), q.at("gold")};
    const std::vector<double> found = log_likelihoods(scorer_, encode(text, tokenizer_, "it"));
    ASSERT_EQ(found.size(), expected[i].size());
    // Some ten tokens, each right to 1e-4.
    for (size_t a = 0; a < found.size(); ++a)
      EXPECT_NEAR(found[a], expected[i][a].get<double>(), 2e-3) << i << " " << a;
  }
}

TEST_P(Eval, YesNoEqualsTransformers) {
  const int32_t yes = expected_.at("yes_id"), no = expected_.at("no_id");
  EXPECT_EQ(tokenizer_.encode(" yes", false).at(0), yes);
  EXPECT_EQ(tokenizer_.encode(" no", false).at(0), no);
  size_t right = 0;
  const auto questions = lines("yesno.jsonl");
  for (const json& q : questions) {
    const bool is_yes = q.at("answer") == "yes";
    right +=
        prefers(scorer_, tokenizer_.encode(q.at("inputs_pretokenized").get<std::string>(), true),
                is_yes ? yes : no, is_yes ? no : yes);
  }
  EXPECT_NEAR(static_cast<double>(right) / static_cast<double>(questions.size()),
              expected_.at("yesno_accuracy").get<double>(), 1e-9);
}

TEST_P(Eval, AModelHasNoDistanceFromItself) {
  Transformer again(std::make_shared<ModelFolder>(folder_), team_, {.max_rows = Scorer::kChunk});
  Scorer other(again, 512);
  const auto ids = tokenizer_.encode("Rain is water that falls.", true);
  const auto scores = score_window({&scorer_, &other}, ids, {0, ids.size(), 1});
  EXPECT_EQ(scores[1].tokens, ids.size() - 1);
  EXPECT_NEAR(scores[1].kl, 0, 1e-6);
  EXPECT_EQ(scores[1].same_top1, scores[1].tokens);
  EXPECT_EQ(scores[1].shared_top, kTop * scores[1].tokens);
  EXPECT_EQ(scores[1].largest_error, 0);
  EXPECT_NEAR(scores[0].log_loss, scores[1].log_loss, 1e-9);
}

// By hand: p = (1/2, 1/4, 1/8, 1/16, 1/32, 1/32), q the same but for the first two exchanged:
// KL = 1/2 ln 2 + 1/4 ln(1/2) = 1/4 ln 2; -ln q(0) = ln 4. Logits are ln p + 7 and ln q - 3, so
// that the largest error is |ln(1/4) - 3 - ln(1/2) - 7| = 10 + ln 2.
TEST(TextScore, AddsWhatOnePositionCosts) {
  const float l2 = std::log(2.0f);
  std::vector<float> p, q;
  for (float n : {1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 5.0f}) p.push_back(7 - n * l2);
  for (float n : {2.0f, 1.0f, 3.0f, 4.0f, 5.0f, 5.0f}) q.push_back(-3 - n * l2);
  TextScore s;
  s.add(p.data(), q.data(), 6, 0);
  EXPECT_NEAR(s.kl, 0.25 * std::log(2.0), 1e-6);
  EXPECT_NEAR(s.log_loss, std::log(4.0), 1e-6);
  EXPECT_EQ(s.same_top1, 0u);
  EXPECT_EQ(s.shared_top, 5u);  // in another order, and of the last two the earlier
  EXPECT_NEAR(s.largest_error, 10 + l2, 1e-5);
  s.add(p.data(), p.data(), 6, 1);
  EXPECT_NEAR(s.log_loss, 2 * std::log(4.0), 1e-6);
  EXPECT_EQ(s.same_top1, 1u);
  EXPECT_EQ(s.tokens, 2u);
}

TEST(TextScore, CountsTheLikeliestFiveInCommon) {
  const std::vector<float> reference = {9, 8, 7, 6, 5, 4, 3, 2}, model = {2, 8, 7, 3, 9, 6, 5, 1};
  TextScore s;
  s.add(reference.data(), model.data(), 8, 0);
  EXPECT_EQ(s.shared_top, 3u);  // 0 1 2 3 4 and 4 1 2 5 6
  EXPECT_EQ(s.same_top1, 0u);
}

TEST(Windows, PredictEveryTokenOnce) {
  const auto as_text = [](size_t tokens, size_t size, size_t stride) {
    std::string s;
    for (const Window& w : windows(tokens, size, stride))
      s += fmt::format("{}-{}:{} ", w.begin, w.end, w.scored);
    return s;
  };
  EXPECT_EQ(as_text(10, 10, 10), "0-10:1 ");
  EXPECT_EQ(as_text(10, 4, 2), "0-4:1 2-6:4 4-8:6 6-10:8 ");
  EXPECT_EQ(as_text(9, 4, 3), "0-4:1 3-7:4 6-9:7 ");
  EXPECT_EQ(as_text(9, 4, 4), "0-4:1 4-8:5 ");  // token 8 would stand alone
  EXPECT_EQ(as_text(1, 4, 2), "");
}

}  // namespace
}  // namespace octet
