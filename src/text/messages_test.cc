#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "src/base/error.h"
#include "src/text/chat_template.h"
#include "src/text/white_space.h"

namespace octet::text {
namespace {

using ::testing::HasSubstr;

ordered_json normalize(const char* text) {
  return normalize_messages(ordered_json::parse(text))[0];
}

std::string refusal(const std::string& text) {
  try {
    normalize_messages(ordered_json::parse(text));
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  ADD_FAILURE() << "accepted: " << text;
  return {};
}

TEST(NormalizeMessages, JoinsTextParts) {
  EXPECT_EQ(normalize(R"([{"role": "user", "content": "a"}])")["content"], "a");
  EXPECT_EQ(normalize(R"([{"role": "user", "content": [{"type": "text", "text": "a"},
                          {"type": "input_text", "text": "b"}, "c"]}])")["content"],
            "a\nb\nc");
  EXPECT_EQ(normalize(R"([{"role": "user", "content": []}])")["content"], "");
  EXPECT_EQ(normalize(R"([{"role": "assistant", "content": null}])")["content"], "");
  EXPECT_EQ(normalize(R"([{"role": "assistant"}])")["content"], "");
  EXPECT_EQ(normalize_messages(ordered_json::array()).size(), 0u);
}

TEST(NormalizeMessages, KeepsOtherMembersInOrder) {
  const ordered_json m = normalize(
      R"([{"z": 1, "role": "anything", "name": "n", "content": "c", "tool_calls": null, "a": {}}])");
  EXPECT_EQ(m.dump(), R"({"z":1,"role":"anything","name":"n","content":"c","a":{}})");
}

TEST(NormalizeMessages, ParsesArguments) {
  const ordered_json m = normalize(
      R"([{"role": "assistant", "tool_calls": [
          {"function": {"name": "f", "arguments": "{\"b\": 1, \"a\": [2]}"}},
          {"function": {"name": "g", "arguments": ""}},
          {"function": {"name": "h", "arguments": {"x": 1}}},
          {"function": {"name": "i"}}]}])");
  EXPECT_EQ(m["tool_calls"][0]["function"]["arguments"].dump(), R"({"b":1,"a":[2]})");
  EXPECT_EQ(m["tool_calls"][1]["function"]["arguments"].dump(), "{}");
  EXPECT_EQ(m["tool_calls"][2]["function"]["arguments"].dump(), R"({"x":1})");
  EXPECT_EQ(m["tool_calls"][3]["function"]["arguments"].dump(), "{}");
}

TEST(NormalizeMessages, OffersReasoningUnderItsNames) {
  const ordered_json m = normalize(R"([{"role": "assistant", "content": "c", "reasoning": "r"}])");
  EXPECT_EQ(m["reasoning_content"], "r");
  EXPECT_EQ(m["thinking"], "r");
  EXPECT_EQ(m["reasoning"], "r");
}

TEST(NormalizeMessages, RefusesWhatIsNoChat) {
  EXPECT_THAT(refusal(R"({"role": "user"})"), HasSubstr("messages"));
  EXPECT_THAT(refusal(R"(["text"])"), HasSubstr("messages[0]"));
  EXPECT_THAT(refusal(R"([{"content": "a"}])"), HasSubstr("messages[0].role"));
  EXPECT_THAT(refusal(R"([{"role": 1}])"), HasSubstr("messages[0].role"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": 1}])"), HasSubstr("messages[0].content"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": {"type": "text", "text": "a"}}])"),
              HasSubstr("messages[0].content"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [{"type": "text"}]}])"),
              HasSubstr("messages[0].content[0].text"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [{"type": 1}]}])"), HasSubstr("type"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [3]}])"), HasSubstr("content[0]"));
  EXPECT_THAT(refusal(R"([{"role": "user", "content": [{"type": "image_url",
                          "image_url": {"url": "http://example.org"}}]}])"),
              HasSubstr("text only"));
  EXPECT_THAT(refusal(R"([{"role": "a", "tool_calls": {}}])"), HasSubstr("tool_calls"));
  EXPECT_THAT(refusal(R"([{"role": "a", "tool_calls": [1]}])"), HasSubstr("function"));
  EXPECT_THAT(refusal(R"([{"role": "a", "tool_calls": [{"function": {"arguments": "{"}}]}])"),
              HasSubstr("arguments"));
}

TEST(WhiteSpace, StripsAsPythonDoes) {
  EXPECT_EQ(strip(" \t\n\v\f\r\x1c\u0085\u00a0\u2003\u3000x y\u2028 "), "x y");
  EXPECT_EQ(strip_right("  x\u200b\u3000"), "  x\u200b");  // U+200B is no white space
  EXPECT_EQ(strip(" \u3000"), "");
  EXPECT_EQ(strip(""), "");
}

}  // namespace
}  // namespace octet::text
