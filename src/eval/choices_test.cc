// The shapes of multiple-choice questions, right and wrong. (Likelihoods: eval_test.cc.)
#include "src/eval/choices.h"

#include <gtest/gtest.h>

#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::message_of;

class Choices : public ::testing::Test {
 protected:
  ChoiceText one(const std::string& line) {
    write_text(dir_ / "q.jsonl", line + "\n");
    return read_choices(dir_ / "q.jsonl").at(0);
  }
  void refuse(const std::string& line, const std::string& words) {
    const std::string message = message_of([&] { one(line); });
    EXPECT_NE(message.find(words), std::string::npos) << message;
    EXPECT_NE(message.find("line 1"), std::string::npos) << message;
  }
  octet::tests::TempFolder dir_{"choices"};
};

TEST_F(Choices, ComeInManyShapes) {
  const ChoiceText plain = one(R"({"query": "q", "choices": ["a", "b"], "gold": 1})");
  EXPECT_EQ(plain.context, "q");
  EXPECT_EQ(plain.choices, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(plain.gold, 1u);
  // HellaSwag counts from 0, in text.
  EXPECT_EQ(one(R"({"ctx": "q", "endings": ["a", "b", "c"], "label": "2"})").gold, 2u);
  EXPECT_EQ(one(R"({"question": "q", "choices": ["a", "b"], "answer": "B"})").gold, 1u);
  EXPECT_EQ(one(R"({"question": "q", "choices": ["no", "yes"], "answer": "yes"})").gold, 1u);
  // ARC brings its labels, letters or numbers from 1.
  const ChoiceText arc = one(
      R"({"question": "q", "choices": {"text": ["a", "b"], "label": ["1", "2"]}, "answerKey": "1"})");
  EXPECT_EQ(arc.choices[1], "b");
  EXPECT_EQ(arc.gold, 0u);
}

TEST_F(Choices, WrongOnesAreNamed) {
  refuse(R"([1])", "no object");
  refuse(R"({"choices": ["a", "b"], "gold": 0})", "no question");
  refuse(R"({"query": "q", "gold": 0})", "no answers");
  refuse(R"({"query": "q", "choices": ["a"], "gold": 0})", "too few answers");
  refuse(R"({"query": "q", "choices": ["a", ""], "gold": 0})", "no text");
  refuse(R"({"query": "q", "choices": ["a", "b"]})", "no right answer");
  for (const char* gold : {"2", "-1", "\"C\"", "\"c\"", "1.5"})
    refuse(R"({"query": "q", "choices": ["a", "b"], "gold": )" + std::string(gold) + "}",
           "none of the answers");
  write_text(dir_ / "empty.jsonl", "\n");
  EXPECT_NE(message_of([&] { read_choices(dir_ / "empty.jsonl"); }).find("no questions"),
            std::string::npos);
}

TEST(ChoiceQuestion, SpaceAtTheEndGoesToTheAnswers) {
  const text::Tokenizer tokenizer =
      text::Tokenizer::load(fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16");
  const ChoiceQuestion q = encode({"Rain \n", {"falls", "ä–"}, 0}, tokenizer, "it");
  EXPECT_EQ(q.context, tokenizer.encode("Rain", true));
  const auto answer = tokenizer.decode(q.answers[0], false);
  EXPECT_EQ(answer, " \n falls");
  EXPECT_EQ(q.characters, (std::vector<size_t>{5, 2}));
  EXPECT_EQ(q.longest(), q.context.size() + std::max(q.answers[0].size(), q.answers[1].size()));
}

// By hand: -6 over 2 characters is -3, -8 over 4 is -2.
TEST(ChoiceQuestion, LengthCountsInAccNorm) {
  ChoiceQuestion q;
  q.characters = {2, 4};
  q.gold = 1;
  const ChoiceResult r = judge(q, {-6, -8});
  EXPECT_FALSE(r.acc);
  EXPECT_TRUE(r.acc_norm);
}

}  // namespace
}  // namespace octet
