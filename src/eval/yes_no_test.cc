#include "src/eval/yes_no.h"

#include <gmock/gmock.h>

#include "src/base/error.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

class YesNo : public ::testing::Test {
 protected:
  std::vector<YesNoText> read(const std::string& lines) {
    write_text(file_, lines);
    return read_yes_no(file_);
  }
  std::string refused(const std::string& lines) {
    return octet::tests::message_of([&] { read(lines); });
  }

  octet::tests::TempFolder dir_{"yes_no"};
  fs::path file_ = dir_ / "q.jsonl";
};

TEST_F(YesNo, AllShapesGiveOnePrompt) {
  const auto q = read(
      R"({"inputs_pretokenized": "Bag -- It is blue.\nQuestion: is it blue?\nAnswer:", "answer": "yes"}
{"question": "is it blue", "title": "Bag", "passage": "It is blue.", "answer": true}
{"question": "is it blue?", "title": "Bag", "passage": "Bag -- It is blue.", "answer": false}

{"question": "is it blue", "passage": "Bag -- It is blue.", "label": 0, "idx": 3}
)");
  ASSERT_EQ(q.size(), 4u);
  for (const YesNoText& one : q)
    EXPECT_EQ(one.prompt, "Bag -- It is blue.\nQuestion: is it blue?\nAnswer:");
  EXPECT_TRUE(q[0].yes && q[1].yes);
  EXPECT_FALSE(q[2].yes || q[3].yes);
}

TEST_F(YesNo, AnAnswerThatIsNullIsNone) {
  const auto q = read(R"({"question": "q", "passage": "p", "answer": null, "label": 1})");
  ASSERT_EQ(q.size(), 1u);
  EXPECT_TRUE(q[0].yes);
}

TEST_F(YesNo, WhatIsWrongIsNamed) {
  EXPECT_THAT(refused("\n{\"question\": \"q\", \"passage\": \"p\", \"answer\": \"maybe\"}"),
              ::testing::AllOf(HasSubstr("line 2"), HasSubstr("no answer"), HasSubstr("maybe")));
  EXPECT_THAT(
      refused(R"({"question": "q", "answer": true})"),
      ::testing::AllOf(HasSubstr("line 1"), HasSubstr("no question"), HasSubstr("passage")));
  EXPECT_THAT(refused(R"({"question": "q", "passage": "p"})"), HasSubstr("no answer"));
  EXPECT_THAT(refused("[1]"), HasSubstr("is no object"));
  EXPECT_THAT(refused(""), HasSubstr("no questions"));
}

}  // namespace
}  // namespace octet
