// /v1/chat/completions over real sockets.
#include "src/server/testing.h"

namespace octet::server::tests {
namespace {

constexpr const char* kChat = "/v1/chat/completions";

class ChatTest : public ServerTest {
 protected:
  static ordered_json body(ordered_json extra = ordered_json::object()) {
    ordered_json b = {{"messages", {{{"role", "user"}, {"content", "Say hello."}}}},
                      {"max_completion_tokens", 10},
                      {"temperature", 0}};
    b.update(extra);
    return b;
  }
  static std::string content(const ordered_json& answer) {
    return answer["choices"][0]["message"]["content"];
  }
  static std::string joined(const std::vector<ordered_json>& events) {
    std::string all;
    for (const ordered_json& e : events)
      for (const ordered_json& c : e["choices"]) all += c["delta"].value("content", "");
    return all;
  }
};

TEST_F(ChatTest, Shape) {
  start();
  const ordered_json a = chat(body());
  EXPECT_EQ(a["object"], "chat.completion");
  EXPECT_EQ(a["id"].get<std::string>().rfind("chatcmpl-", 0), 0u);
  const ordered_json& c = a["choices"][0];
  EXPECT_EQ(c["message"]["role"], "assistant");
  EXPECT_TRUE(c["message"]["tool_calls"].is_array());
  EXPECT_TRUE(c["message"]["refusal"].is_null());
  EXPECT_TRUE(c["logprobs"].is_null());
  EXPECT_EQ(a["usage"]["completion_tokens"], 10);
  const ordered_json tokens = good("/tokenize", {{"messages", body()["messages"]}});
  EXPECT_EQ(a["usage"]["prompt_tokens"], tokens["count"]);
}

TEST_F(ChatTest, ContentPartsAndTurns) {
  start();
  const ordered_json parts = {{{"type", "text"}, {"text", "Say hello."}}};
  EXPECT_EQ(content(chat(body({{"messages", {{{"role", "user"}, {"content", parts}}}}}))),
            content(chat(body())));
  const ordered_json turns = {{{"role", "system"}, {"content", parts}},
                              {{"role", "user"}, {"content", "a"}, {"name", "x"}, {"foo", 1}},
                              {{"role", "assistant"}, {"content", content(chat(body()))}},
                              {{"role", "user"}, {"content", "b"}}};
  EXPECT_EQ(chat(body({{"messages", turns}}))["choices"][0]["message"]["role"], "assistant");
}

TEST_F(ChatTest, Streams) {
  start();
  const auto events = stream(kChat, body({{"stream_options", {{"include_usage", true}}}}));
  EXPECT_EQ(events[0]["object"], "chat.completion.chunk");
  EXPECT_EQ(events[0]["choices"][0]["delta"],
            ordered_json({{"role", "assistant"}, {"content", ""}}));
  EXPECT_EQ(joined(events), content(chat(body())));
  size_t finished = 0;
  for (const ordered_json& e : events)
    for (const ordered_json& c : e["choices"]) finished += !c["finish_reason"].is_null();
  EXPECT_EQ(finished, 1u);
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 10);
}

TEST_F(ChatTest, RunningUsageIsThatOfTheChoice) {
  start();
  const auto events = stream(
      kChat,
      body({{"n", 2},
            {"temperature", 1},
            {"ignore_eos", true},
            {"logprobs", true},
            {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}}));
  std::vector<size_t> counts(2, 0);
  for (const ordered_json& e : events)
    for (const ordered_json& c : e["choices"]) {
      size_t& count = counts[c["index"].get<size_t>()];
      if (!c["logprobs"].is_null()) count += c["logprobs"]["content"].size();
      EXPECT_EQ(e["usage"]["completion_tokens"], count);  // the role's event comes before any
      EXPECT_EQ(e["usage"]["prompt_tokens"], events.back()["usage"]["prompt_tokens"]);
    }
  EXPECT_EQ(counts, std::vector<size_t>(2, 10));
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 20);
}

TEST_F(ChatTest, Logprobs) {
  start();
  const auto scores = [&](ordered_json extra) {
    return chat(body(std::move(extra)))["choices"][0]["logprobs"];
  };
  EXPECT_TRUE(scores({{"logprobs", false}}).is_null());
  const ordered_json none = scores({{"logprobs", true}});
  ASSERT_EQ(none["content"].size(), 10u);
  EXPECT_TRUE(none["content"][0]["top_logprobs"].empty());
  const ordered_json five = scores({{"logprobs", true}, {"top_logprobs", 5}});
  for (const ordered_json& token : five["content"]) {
    EXPECT_EQ(token["top_logprobs"].size(), 5u);
    std::string bytes;
    for (int b : token["bytes"]) bytes += static_cast<char>(b);
    EXPECT_EQ(token["token"], bytes);
  }
  // Streamed, none get lost while text is held back.
  size_t streamed = 0;
  for (const ordered_json& e : stream(kChat, body({{"logprobs", true}})))
    for (const ordered_json& c : e["choices"])
      if (!c["logprobs"].is_null()) streamed += c["logprobs"]["content"].size();
  EXPECT_EQ(streamed, 10u);
}

TEST_F(ChatTest, FillsTheContextWhenNoLimitIsGiven) {
  start();
  ordered_json b = body({{"ignore_eos", true}});
  b.erase("max_completion_tokens");
  const ordered_json a = chat(b);
  EXPECT_EQ(a["usage"]["total_tokens"], kMaxModelLen);
  EXPECT_EQ(a["choices"][0]["finish_reason"], "length");
  b["max_completion_tokens"] = 3;
  b["max_tokens"] = 7;
  EXPECT_EQ(chat(b)["usage"]["completion_tokens"], 3);
}

TEST_F(ChatTest, TheModelsOwnLimitBoundsAnswers) {
  options_.defaults.max_new_tokens = 6;
  start();
  EXPECT_EQ(chat(body({{"ignore_eos", true}}))["usage"]["completion_tokens"], 6);
}

TEST_F(ChatTest, EchoAndContinuation) {
  start();
  const ordered_json turns = {{{"role", "user"}, {"content", "Count."}},
                              {{"role", "assistant"}, {"content", "One, two"}}};
  const ordered_json b = body({{"messages", turns},
                               {"add_generation_prompt", false},
                               {"continue_final_message", true},
                               {"echo", true}});
  const std::string whole = content(chat(b));
  EXPECT_EQ(whole.rfind("One, two", 0), 0u);
  EXPECT_EQ(joined(stream(kChat, b)), whole);
}

TEST_F(ChatTest, Refusals) {
  start();
  EXPECT_EQ(bad(kChat, {{"messages", ordered_json::array()}})["param"], "messages");
  EXPECT_EQ(bad(kChat, ordered_json::object())["param"], "body.messages");
  bad(kChat, body({{"chat_template", "x"}}));
  bad(kChat, body({{"chat_template_kwargs", {{"tokenize", true}}}}));
  EXPECT_EQ(bad(kChat, body({{"model", "nope"}}), 404)["type"], "NotFoundError");
  ordered_json e = bad(kChat, body({{"max_completion_tokens", 5000}}));
  EXPECT_NE(e["message"].get<std::string>().find("maximum context length"), std::string::npos);
}

TEST_F(ChatTest, NoTemplateIsAClearRefusal) {
  has_template_ = false;
  start();
  const ordered_json e = bad(kChat, body());
  EXPECT_NE(e["message"].get<std::string>().find("chat template"), std::string::npos);
  complete({{"prompt", "Hi"}, {"max_tokens", 1}});
}

TEST_F(ChatTest, InvocationsTakesBoth) {
  start();
  EXPECT_EQ(good("/invocations", body())["object"], "chat.completion");
  EXPECT_EQ(good("/invocations", {{"prompt", "Hi"}})["object"], "text_completion");
}

}  // namespace
}  // namespace octet::server::tests
