// Perplexity and yes/no accuracy of the tiny models against what transformers computed
// (models/*/expected.json).
#include "src/eval/eval.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/base/json.h"
#include "src/text/tokenizer.h"

namespace octet {
namespace {

const fs::path kModels = fs::path(OCTET_SOURCE_DIR) / "models";

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
  Transformer model_{std::make_shared<ModelFolder>(folder_), team_, Scorer::kChunk};
  Scorer scorer_{model_, 512};
};
INSTANTIATE_TEST_SUITE_P(Models, Eval, ::testing::Values("llama3_tiny_bf16", "qwen2_tiny_fp16"));

TEST_P(Eval, PerplexityEqualsTransformers) {
  std::vector<TextScore> scores(1);
  for (const json& line : lines("text.jsonl"))
    score_passage({&scorer_},
                  tokenizer_.encode(line.at("inputs_pretokenized").get<std::string>(), true),
                  scores);
  // A mean over 4e4 tokens of losses that are each right to 1e-4.
  EXPECT_NEAR(scores[0].perplexity(), expected_.at("perplexity").get<double>(), 1e-4);
  EXPECT_EQ(scores[0].kl, 0);
  EXPECT_EQ(scores[0].top1(), 1);
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
  Transformer again(std::make_shared<ModelFolder>(folder_), team_, Scorer::kChunk);
  Scorer other(again, 512);
  std::vector<TextScore> scores(2);
  score_passage({&scorer_, &other}, tokenizer_.encode("Rain is water that falls.", true), scores);
  EXPECT_NEAR(scores[1].mean_kl(), 0, 1e-6);
  EXPECT_EQ(scores[1].top1(), 1);
  EXPECT_NEAR(scores[0].log_loss, scores[1].log_loss, 1e-9);
}

// By hand: p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2):
// KL = 1/2 ln 2 + 0 + 1/4 ln(1/2) = 1/4 ln 2; -ln q(0) = ln 4. Logits are ln p + 7 and ln q - 3.
TEST(TextScore, AddsKlLossAndTop1) {
  const float l2 = std::log(2.0f);
  const std::vector<float> p = {7 - l2, 7 - 2 * l2, 7 - 2 * l2};
  const std::vector<float> q = {-3 - 2 * l2, -3 - 2 * l2, -3 - l2};
  TextScore s;
  s.add(p.data(), q.data(), 3, 0);
  EXPECT_NEAR(s.kl, 0.25 * std::log(2.0), 1e-6);
  EXPECT_NEAR(s.log_loss, std::log(4.0), 1e-6);
  EXPECT_EQ(s.same_top1, 0u);
  s.add(p.data(), p.data(), 3, 1);
  EXPECT_NEAR(s.log_loss, 2 * std::log(4.0), 1e-6);
  EXPECT_EQ(s.same_top1, 1u);
  EXPECT_EQ(s.tokens, 2u);
}

}  // namespace
}  // namespace octet
