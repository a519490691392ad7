#include "src/cli/spelling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::StartsWith;
using testing::ThrowsMessage;
using Words = std::vector<std::string>;

Words folded(Words words) {
  std::vector<const char*> argv = {"octet"};
  for (const std::string& word : words) argv.push_back(word.c_str());
  return fold_names(static_cast<int>(argv.size()), argv.data());
}

// A serve with a few flags, among them two that begin alike.
class Serve : public testing::Test {
 protected:
  Serve() {
    const Verb serve = program_.top().verb("serve", "");
    serve.text("--max-model-len", text_, "");
    serve.text("--max-num-seqs", text_, "");
    serve.text("--tensor-parallel-size,--tp", text_, "");
    serve.text("--api-server-count", text_, "");
    serve.text("--quantization,-q", text_, "");
    program_.top().verb("eval", "").text("--max-tokens", text_, "");
  }

  Words expanded(Words words) const {
    expand_serve_names(program_.top(), words);
    return words;
  }

  std::string text_;
  Program program_{"octet", "", ""};
};

TEST(FoldNames, NamesTakeDashesAndValuesStay) {
  EXPECT_THAT(folded({"quantize", "--model_path=a_b", "--save_directory", "c_d"}),
              ElementsAre("quantize", "--model-path=a_b", "--save-directory", "c_d"));
  EXPECT_THAT(folded({"a_b", "-a_b"}), ElementsAre("a_b", "-a_b"));
}

TEST(FoldNames, ShortNamesOfTwoLetters) {
  EXPECT_THAT(folded({"-tp", "2", "-pp=1", "-dp4"}), ElementsAre("--tp", "2", "--pp=1", "--dp=4"));
  EXPECT_THAT(folded({"-tpx", "-tp=x", "-t", "-q"}), ElementsAre("-tpx", "-tp=x", "-t", "-q"));
}

TEST(FoldNames, WordsAfterTwoDashesStay) {
  EXPECT_THAT(folded({"--a_b", "--", "--a_b", "-tp2"}),
              ElementsAre("--a-b", "--", "--a_b", "-tp2"));
}

TEST_F(Serve, BeginningsAreWrittenOut) {
  EXPECT_THAT(expanded({"serve", "--max-mod=8k", "--tensor", "2"}),
              ElementsAre("serve", "--max-model-len=8k", "--tensor-parallel-size", "2"));
  EXPECT_THAT(expanded({"serve", "-asc=2"}), ElementsAre("serve", "--api-server-count=2"));
  // Names themselves, the second of two, short and unknown ones stay, and values.
  EXPECT_THAT(expanded({"serve", "--tp", "--max-model-len", "-q", "--other", "max-mod"}),
              ElementsAre("serve", "--tp", "--max-model-len", "-q", "--other", "max-mod"));
  EXPECT_THAT(expanded({"serve", "--", "--max-mod"}), ElementsAre("serve", "--", "--max-mod"));
}

TEST_F(Serve, WhatFitsSeveralIsRefused) {
  EXPECT_THAT(
      [&] {
        expanded({"serve", "--max"});
      },
      ThrowsMessage<Error>(HasSubstr("--max could be --max-model-len, --max-num-seqs")));
}

TEST_F(Serve, OtherVerbsHaveNoShorterNames) {
  EXPECT_THAT(expanded({"eval", "--max-tok", "1"}), ElementsAre("eval", "--max-tok", "1"));
}

// One after the other in one test: what was typed belongs to the process.
TEST_F(Serve, MessagesNameOptionsAsTheyWereTyped) {
  const Words raw = {"serve", "--max_model_len=x", "-tp2", "-q", "none"};
  const Words args = folded(raw);
  remember_spelling(program_.top(), raw, args);
  EXPECT_EQ(as_typed("--max-model-len: no size"), "--max_model_len: no size");
  EXPECT_EQ(as_typed("--tensor-parallel-size 2, or --tp."), "-tp 2, or -tp.");
  EXPECT_EQ(as_typed("--quantization: no"), "-q: no");
  // Those that were not typed take the same joint, if the verb has them; beside none, they stay.
  EXPECT_EQ(as_typed("--max-model-len and --max-num-seqs"), "--max_model_len and --max_num_seqs");
  EXPECT_EQ(as_typed("lower --max-num-seqs"), "lower --max-num-seqs");
  EXPECT_EQ(as_typed("--max-model-len and --max-tokens"), "--max_model_len and --max-tokens");
  EXPECT_EQ(as_typed("well-known, 3-4"), "well-known, 3-4");
}

}  // namespace
}  // namespace octet::cli
