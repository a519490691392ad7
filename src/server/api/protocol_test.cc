// What requests may say: every member, its defaults and its limits.
#include "src/server/api/protocol.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "src/engine/refusal.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

class ProtocolTest : public testing::Test {
 protected:
  ProtocolTest() {
    options_.served_model_names = {"tiny", "alias"};
    options_.model_path = "/models/tiny";
  }
  GenerationRequest completion(ordered_json extra = ordered_json::object()) {
    if (!extra.contains("prompt")) extra["prompt"] = "Hello";
    return parse_completion(extra, options_);
  }
  GenerationRequest chat(ordered_json extra = ordered_json::object()) {
    if (!extra.contains("messages"))
      extra["messages"] = ordered_json::parse(R"([{"role":"user","content":"Hi"}])");
    return parse_chat(extra, options_);
  }
  // "400 field" of the error, or "accepted".
  template <typename F>
  std::string outcome(F&& f) {
    try {
      f();
    } catch (const std::exception& e) {
      const ApiError error = to_api_error(e);
      EXPECT_FALSE(std::string(error.what()).empty());
      EXPECT_LT(std::string(error.what()).size(), 700u);
      return std::to_string(error.status()) + " " + error.param();
    }
    return "accepted";
  }
  std::string completion_outcome(const ordered_json& extra) {
    return outcome([&] { completion(extra); });
  }
  std::string chat_outcome(const ordered_json& extra) {
    return outcome([&] { chat(extra); });
  }

  ServerOptions options_;
};

ordered_json parsed(const char* text) { return ordered_json::parse(text); }

TEST_F(ProtocolTest, DefaultsOfCompletions) {
  const GenerationRequest r = completion();
  EXPECT_EQ(std::get<std::string>(std::get<0>(r.input).at(0)), "Hello");
  EXPECT_EQ(r.max_tokens, 16);
  EXPECT_EQ(r.n, 1u);
  EXPECT_EQ(r.sampling.temperature, 1);
  EXPECT_EQ(r.sampling.top_p, 1);
  EXPECT_EQ(r.sampling.top_k, 0);
  EXPECT_EQ(r.sampling.logprobs, -1);
  EXPECT_TRUE(r.add_special_tokens);
  EXPECT_TRUE(r.sampling.skip_special_tokens);
  EXPECT_FALSE(r.stream || r.echo || r.include_usage || r.return_token_ids);
}

TEST_F(ProtocolTest, DefaultsOfChat) {
  const GenerationRequest r = chat();
  EXPECT_TRUE(r.chat());
  EXPECT_FALSE(r.max_tokens);
  EXPECT_FALSE(r.add_special_tokens);
  EXPECT_TRUE(std::get<ChatInput>(r.input).render.add_generation_prompt);
  EXPECT_EQ(r.role, "assistant");
}

TEST_F(ProtocolTest, TheModelsDefaultsComeBeforeOpenAis) {
  options_.defaults.temperature = 0.7;
  options_.defaults.top_k = 20;
  options_.defaults.repetition_penalty = 1.05;
  EXPECT_EQ(completion().sampling.temperature, 0.7);
  EXPECT_EQ(completion({{"temperature", nullptr}}).sampling.temperature, 0.7);
  EXPECT_EQ(completion({{"temperature", 0}}).sampling.temperature, 0);
  EXPECT_EQ(completion().sampling.top_k, 20);
  EXPECT_EQ(completion({{"top_k", -1}}).sampling.top_k, 0);
  EXPECT_EQ(chat().sampling.repetition_penalty, 1.05);
}

TEST_F(ProtocolTest, NullIsAbsent) {
  const GenerationRequest r = completion(parsed(R"({
      "model": null, "max_tokens": null, "temperature": null, "top_p": null, "top_k": null, "n": null,
      "min_p": null, "seed": null, "stop": null, "stream": null, "stream_options": null,
      "logprobs": null, "echo": null, "logit_bias": null, "suffix": null, "user": null,
      "best_of": null, "presence_penalty": null, "frequency_penalty": null, "stop_token_ids": null,
      "allowed_token_ids": null, "bad_words": null, "min_tokens": null, "prompt_logprobs": null,
      "response_format": null, "structured_outputs": null, "guided_json": null,
      "truncate_prompt_tokens": null, "prompt_embeds": null, "logits_processors": null})"));
  EXPECT_EQ(r.max_tokens, 16);
}

TEST_F(ProtocolTest, PromptShapes) {
  const auto count = [&](const char* prompt) {
    return std::get<0>(completion({{"prompt", parsed(prompt)}}).input).size();
  };
  EXPECT_EQ(count(R"("a")"), 1u);
  EXPECT_EQ(count(R"(["a", "b"])"), 2u);
  EXPECT_EQ(count("[1, 2, 3]"), 1u);
  EXPECT_EQ(count("[[1, 2], [3]]"), 2u);
  for (const char* wrong :
       {"null", "42", "{}", "[{}]", R"(["a", 1])", "[[1], 2]", "[1.5]", "true", R"([["a"]])"})
    EXPECT_EQ(completion_outcome({{"prompt", parsed(wrong)}}), "400 body.prompt") << wrong;
  for (const char* wrong : {R"("")", "[]", "[[]]", R"(["a", ""])", "[-1]", "[99999999999]"})
    EXPECT_EQ(completion_outcome({{"prompt", parsed(wrong)}}), "400 prompt") << wrong;
  EXPECT_EQ(outcome([&] { parse_completion(ordered_json::object(), options_); }),
            "400 body.prompt");
  EXPECT_EQ(completion_outcome({{"prompt", std::vector<std::vector<int>>(1025, {1})}}),
            "400 prompt");
}

// list[int] in pydantic's lax mode, flat or in a list.
TEST_F(ProtocolTest, TokenIdsThatAreNotWrittenAsIntegers) {
  const std::vector<std::pair<const char*, std::vector<int32_t>>> good = {
      {"[1.0, 2.0]", {1, 2}},
      {R"([1, "2"])", {1, 2}},
      {R"(["2", 1])", {2, 1}},
      {"[true]", {1}},
      {R"([1.0, "2", true, false])", {1, 2, 1, 0}}};
  for (const auto& [text, ids] : good)
    for (const std::string& prompt : {std::string(text), fmt::format("[{}]", text)}) {
      const auto prompts = std::get<0>(completion({{"prompt", parsed(prompt.c_str())}}).input);
      ASSERT_EQ(prompts.size(), 1u) << prompt;
      EXPECT_EQ(std::get<1>(prompts[0]), ids) << prompt;
    }
  const auto texts = std::get<0>(completion({{"prompt", parsed(R"(["1", "2"])")}}).input);
  ASSERT_EQ(texts.size(), 2u);
  EXPECT_EQ(std::get<0>(texts[1]), "2");
  for (const char* wrong : {R"([1, "b"])", "[1.0, 2.5]", "[1, null]", "[true, [1]]", "[1, {}]",
                            R"(["1", null])", "[1e300]"})
    EXPECT_EQ(completion_outcome({{"prompt", parsed(wrong)}}), "400 body.prompt") << wrong;
  EXPECT_EQ(completion_outcome({{"prompt", parsed("[1.0, -2.0]")}}), "400 prompt");
  // One prompt, however many ids it has.
  EXPECT_EQ(completion_outcome({{"prompt", std::vector<double>(5000, 1)}}), "accepted");
}

TEST_F(ProtocolTest, KeysOfLogitBias) {
  const auto biases = [&](const char* text) {
    return completion({{"logit_bias", parsed(text)}}).sampling.logit_bias;
  };
  using Biases = std::vector<std::pair<int32_t, float>>;
  EXPECT_EQ(biases(R"({"+77": 1, " 78 ": 2, "\t079\n": 3, "-0": 4, "8_0": 5})"),
            (Biases{{0, 4}, {77, 1}, {78, 2}, {79, 3}, {80, 5}}));
  EXPECT_EQ(biases(R"({"77": 60, "5": 1, "077": 50, " +77": 40})"), (Biases{{5, 1}, {77, 40}}));
  for (const char* wrong : {"", " ", "+", "-", "+-7", "-+7", "7 7", "7.0", "0x7", "+ 7", "7a",
                            "99999999999", "true", "_7", "7__0"})
    EXPECT_EQ(completion_outcome({{"logit_bias", {{wrong, 1}}}}), "400 logit_bias") << wrong;
}

// From the bytes of a body to what the engine is asked for.
TEST_F(ProtocolTest, ABiasForEveryIdOfALargeVocabulary) {
  constexpr size_t kIds = 50000;
  std::string members;
  for (size_t id = 0; id < kIds; ++id) members += fmt::format("{}\"{}\":-1", id ? "," : "", id);
  const GenerationRequest r =
      completion(parse_body(fmt::format("{{\"prompt\":\"Hi\",\"logit_bias\":{{{}}}}}", members)));
  ASSERT_EQ(r.sampling.logit_bias.size(), kIds);
  for (size_t id = 0; id < kIds; ++id)
    ASSERT_EQ(r.sampling.logit_bias.begin()[id],
              (std::pair<int32_t, float>{static_cast<int32_t>(id), -1}));
  Request request;
  request.prompt = {1};
  request.sampling = r.sampling;
  EXPECT_FALSE(refusal_of(request, {/*vocab=*/kIds, /*max_model_len=*/100, true, {}}));
  EXPECT_TRUE(refusal_of(request, {/*vocab=*/kIds - 1, /*max_model_len=*/100, true, {}}));
}

TEST_F(ProtocolTest, NumbersOutOfRange) {
  const std::vector<std::pair<const char*, const char*>> wrong = {{"temperature", "-1"},
                                                                  {"top_p", "0"},
                                                                  {"top_p", "1.1"},
                                                                  {"top_k", "-2"},
                                                                  {"min_p", "-0.1"},
                                                                  {"min_p", "1.1"},
                                                                  {"repetition_penalty", "0"},
                                                                  {"repetition_penalty", "-1"},
                                                                  {"repetition_penalty", "1e-300"},
                                                                  {"repetition_penalty", "1e300"},
                                                                  {"presence_penalty", "2.1"},
                                                                  {"frequency_penalty", "-2.1"},
                                                                  {"n", "0"},
                                                                  {"n", "-1"},
                                                                  {"max_tokens", "-1"},
                                                                  {"max_tokens", "0"},
                                                                  {"min_tokens", "-1"},
                                                                  {"logprobs", "-2"},
                                                                  {"logprobs", "-1"},
                                                                  {"logprobs", "21"},
                                                                  {"prompt_logprobs", "-1"},
                                                                  {"prompt_logprobs", "21"},
                                                                  {"truncate_prompt_tokens", "-2"},
                                                                  {"stop", R"("")"},
                                                                  {"stop", R"([""])"},
                                                                  {"allowed_token_ids", "[]"},
                                                                  {"bad_words", R"([""])"},
                                                                  {"logit_bias", R"({"abc": 1})"},
                                                                  {"n", "20000"},
                                                                  {"stream_interval", "0"},
                                                                  {"truncation_side", R"("up")"},
                                                                  {"cache_salt", R"("")"}};
  for (const auto& [name, value] : wrong)
    EXPECT_EQ(completion_outcome({{name, parsed(value)}}), std::string("400 ") + name) << value;
}

TEST_F(ProtocolTest, WrongTypes) {
  const std::vector<std::pair<const char*, const char*>> wrong = {{"temperature", R"("hot")"},
                                                                  {"top_k", "1.5"},
                                                                  {"logprobs", R"("x")"},
                                                                  {"max_tokens", "[]"},
                                                                  {"stream", R"("yes!")"},
                                                                  {"stop", "[1]"},
                                                                  {"logit_bias", "[]"},
                                                                  {"logit_bias", R"({"1": "a"})"},
                                                                  {"model", "1"},
                                                                  {"stop_token_ids", R"(["a"])"},
                                                                  {"seed", "9223372036854775808"},
                                                                  {"seed", "-9223372036854775809"},
                                                                  {"stream_options", "1"},
                                                                  {"response_format", "[]"}};
  for (const auto& [name, value] : wrong)
    EXPECT_EQ(completion_outcome({{name, parsed(value)}}), std::string("400 body.") + name)
        << value;
}

// As pydantic 2 reads them in its lax mode.
TEST_F(ProtocolTest, NumbersAndBooleansAsStrings) {
  for (const auto& [text, value] : std::vector<std::pair<const char*, int64_t>>{{R"("5")", 5},
                                                                                {R"(" 5\n")", 5},
                                                                                {R"("+5")", 5},
                                                                                {R"("05")", 5},
                                                                                {R"("5.0")", 5},
                                                                                {R"("5.")", 5},
                                                                                {R"("1_0")", 10},
                                                                                {"true", 1}})
    EXPECT_EQ(completion({{"max_tokens", parsed(text)}}).max_tokens, value) << text;
  for (const char* wrong : {R"("five")", R"("")", R"(" ")", R"("5.5")", R"("5e0")", R"("_5")",
                            R"("5_")", R"("1__0")", R"("0x5")", R"("+-5")", R"("5 5")"})
    EXPECT_EQ(completion_outcome({{"max_tokens", parsed(wrong)}}), "400 body.max_tokens") << wrong;
  for (const auto& [text, value] : std::vector<std::pair<const char*, double>>{
           {R"("0.7")", 0.7}, {R"(" 7e-1 ")", 0.7}, {R"("+.5")", 0.5}, {R"("1")", 1}, {"true", 1}})
    EXPECT_EQ(completion({{"temperature", parsed(text)}}).sampling.temperature, value) << text;
  for (const char* wrong : {R"("hot")", R"("0.7x")", R"("")", "[]", "{}"})
    EXPECT_EQ(completion_outcome({{"temperature", parsed(wrong)}}), "400 body.temperature")
        << wrong;
  for (const char* infinite : {R"("inf")", R"("nan")"})
    EXPECT_EQ(completion_outcome({{"temperature", parsed(infinite)}}), "400 temperature");
  for (const char* yes : {"true", "1", "1.0", R"("true")", R"("True")", R"("YES")", R"("on")",
                          R"("1")", R"("t")", R"("y")"})
    EXPECT_TRUE(completion({{"stream", parsed(yes)}}).stream) << yes;
  for (const char* no :
       {"false", "0", "0.0", R"("false")", R"("No")", R"("off")", R"("0")", R"("f")", R"("n")"})
    EXPECT_FALSE(completion({{"stream", parsed(no)}}).stream) << no;
  for (const char* wrong : {"2", "0.5", R"("2")", R"("")", R"("yes!")", R"(" true")", "[]"})
    EXPECT_EQ(completion_outcome({{"stream", parsed(wrong)}}), "400 body.stream") << wrong;

  const GenerationRequest r = completion(parsed(
      R"({"stop_token_ids": ["5", 6.0], "logit_bias": {"7": "1.5"}, "logprobs": "2", "n": "1"})"));
  EXPECT_EQ(r.sampling.stop_token_ids, (std::vector<int32_t>{5, 6}));
  EXPECT_EQ(r.sampling.logit_bias, (std::vector<std::pair<int32_t, float>>{{7, 1.5f}}));
  EXPECT_EQ(r.sampling.logprobs, 2);
  EXPECT_EQ(chat({{"logprobs", "true"}, {"top_logprobs", "3"}}).sampling.logprobs, 3);
  EXPECT_EQ(completion_outcome({{"logit_bias", {{"7", "nan"}}}}), "400 body.logit_bias");
}

TEST_F(ProtocolTest, Seeds) {
  EXPECT_EQ(completion({{"seed", 9223372036854775807}}).sampling.seed, 9223372036854775807);
  EXPECT_EQ(completion({{"seed", -1}}).sampling.seed, std::nullopt);
  EXPECT_EQ(completion({{"max_tokens", 5.0}}).max_tokens, 5);
}

TEST_F(ProtocolTest, MembersThatDependOnEachOther) {
  EXPECT_EQ(completion_outcome({{"n", 2}, {"temperature", 0}}), "400 n");
  EXPECT_EQ(completion_outcome({{"min_tokens", 30}, {"max_tokens", 20}}), "400 min_tokens");
  EXPECT_EQ(completion_outcome({{"max_tokens", 0}, {"echo", true}}), "accepted");
  EXPECT_EQ(completion_outcome({{"prompt_logprobs", 1}, {"stream", true}}), "400 prompt_logprobs");
  EXPECT_EQ(completion_outcome({{"prompt_logprobs", 0}, {"stream", true}}), "accepted");
  for (bool usage : {false, true})
    for (const char* name : {"include_usage", "continuous_usage_stats"})
      EXPECT_EQ(completion_outcome({{"stream_options", {{name, usage}}}}), "400 stream_options");
  EXPECT_EQ(completion_outcome({{"stream_options", ordered_json::object()}}), "accepted");
  EXPECT_EQ(completion_outcome({{"best_of", 1}}), "accepted");
  EXPECT_EQ(completion_outcome({{"best_of", 5}}), "400 best_of");
  EXPECT_EQ(completion_outcome({{"best_of", 2}, {"n", 2}}), "accepted");
}

TEST_F(ProtocolTest, WhatWouldChangeTheAnswerIsRefused) {
  const std::vector<std::pair<const char*, const char*>> wrong = {
      {"suffix", R"("end")"},
      {"use_beam_search", "true"},
      {"guided_json", "{}"},
      {"guided_regex", R"("a")"},
      {"guided_choice", R"(["a"])"},
      {"guided_grammar", R"("a")"},
      {"structured_outputs", R"({"choice": ["yes", "no"]})"},
      {"response_format", R"({"type": "json_object"})"},
      {"priority", "1"},
      {"prompt_embeds", R"("AAAA")"},
      {"logits_processors", R"(["x"])"},
      {"kv_transfer_params", "{}"},
      {"logprob_token_ids", "[1]"}};
  for (const auto& [name, value] : wrong)
    EXPECT_EQ(completion_outcome({{name, parsed(value)}}), std::string("400 ") + name);
  EXPECT_EQ(completion_outcome({{"response_format", {{"type", "text"}}}}), "accepted");
  EXPECT_EQ(completion_outcome({{"foo", 1}, {"user", "me"}, {"length_penalty", 2}}), "accepted");
}

TEST_F(ProtocolTest, Models) {
  for (const char* name : {"tiny", "alias", "/models/tiny", ""})
    EXPECT_EQ(completion_outcome({{"model", name}}), "accepted");
  EXPECT_EQ(completion_outcome({{"model", "other"}}), "404 model");
  EXPECT_EQ(chat_outcome({{"model", "other"}}), "404 model");
}

TEST_F(ProtocolTest, Messages) {
  for (const char* wrong : {R"("Hi")", "null", "{}"})
    EXPECT_EQ(chat_outcome({{"messages", parsed(wrong)}}), "400 body.messages") << wrong;
  EXPECT_EQ(chat_outcome({{"messages", ordered_json::array()}}), "400 messages");
  EXPECT_EQ(chat_outcome({{"messages", parsed("[42]")}}), "400 messages[0]");
  EXPECT_EQ(chat_outcome({{"messages", parsed(R"([{"content": "Hi"}])")}}), "400 messages[0].role");
  EXPECT_EQ(chat_outcome({{"messages", parsed(R"([{"role": "user", "content":
                [{"type": "image_url", "image_url": {"url": "x"}}]}])")}}),
            "400 messages[0].content[0]");
  EXPECT_EQ(chat_outcome({{"messages", parsed(R"([{"role": "critic", "name": "x", "foo": 1,
                "content": [{"type": "text", "text": "Hi"}]}])")}}),
            "accepted");
}

TEST_F(ProtocolTest, ChatLogprobs) {
  EXPECT_EQ(chat({{"logprobs", false}}).sampling.logprobs, -1);
  EXPECT_EQ(chat({{"logprobs", true}}).sampling.logprobs, 0);
  EXPECT_EQ(chat({{"logprobs", true}, {"top_logprobs", 5}}).sampling.logprobs, 5);
  EXPECT_EQ(chat_outcome({{"logprobs", true}, {"top_logprobs", 21}}), "400 top_logprobs");
  EXPECT_EQ(chat_outcome({{"logprobs", false}, {"top_logprobs", 5}}), "400 top_logprobs");
  EXPECT_EQ(chat_outcome({{"logprobs", true}, {"top_logprobs", -1}}), "400 top_logprobs");
  EXPECT_EQ(chat_outcome({{"logprobs", 5}}), "400 body.logprobs");
  options_.max_logprobs = -1;
  EXPECT_GT(chat({{"logprobs", true}, {"top_logprobs", -1}}).sampling.logprobs, 100000);
}

TEST_F(ProtocolTest, ChatPrompts) {
  EXPECT_EQ(chat_outcome({{"add_generation_prompt", true}, {"continue_final_message", true}}),
            "400 continue_final_message");
  EXPECT_EQ(chat_outcome({{"continue_final_message", true}}), "accepted");
  EXPECT_EQ(chat_outcome({{"chat_template", "{{ 1 }}"}}), "400 chat_template");
  EXPECT_EQ(chat_outcome({{"chat_template_kwargs", {{"chat_template", "x"}}}}),
            "400 chat_template_kwargs.chat_template");
  const GenerationRequest both = chat({{"max_completion_tokens", 3}, {"max_tokens", 7}});
  EXPECT_EQ(both.max_tokens, 3);
  EXPECT_EQ(chat({{"max_tokens", 7}}).max_tokens, 7);
}

TEST_F(ProtocolTest, Tools) {
  const ordered_json tools = parsed(R"([{"type": "function", "function": {"name": "weather"}}])");
  const auto named = [](const char* name) -> ordered_json {
    return {{"type", "function"}, {"function", {{"name", name}}}};
  };
  EXPECT_EQ(chat_outcome({{"tools", ordered_json::array()}}), "accepted");
  EXPECT_EQ(chat_outcome({{"tools", tools}, {"tool_choice", "none"}}), "accepted");
  for (const char* mode : {"auto", "required"}) {
    EXPECT_EQ(chat_outcome({{"tool_choice", mode}}), "400 tool_choice");
    EXPECT_EQ(chat_outcome({{"tools", tools}, {"tool_choice", mode}}), "400 tool_choice");
  }
  try {
    chat({{"tools", tools}});
    FAIL();
  } catch (const ApiError& e) {
    EXPECT_NE(std::string(e.what()).find("--enable-auto-tool-choice"), std::string::npos);
    EXPECT_NE(std::string(e.what()).find("--tool-call-parser"), std::string::npos);
  }
  EXPECT_EQ(chat_outcome({{"tools", tools}, {"tool_choice", named("time")}}), "400 tool_choice");
  EXPECT_EQ(chat_outcome({{"tools", tools}, {"tool_choice", named("weather")}}), "400 tool_choice");
  EXPECT_EQ(chat_outcome({{"tools", tools}, {"tool_choice", ordered_json::object()}}),
            "400 body.tool_choice.function.name");
  EXPECT_EQ(chat_outcome({{"tools", parsed(R"([{"function": {}}])")}}),
            "400 body.tools[].function.name");
}

}  // namespace
}  // namespace octet::server
