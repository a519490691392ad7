// /v1/completions, /tokenize and /detokenize over real sockets.
#include <algorithm>
#include <set>

#include "src/server/testing.h"

namespace octet::server::tests {
namespace {

constexpr const char* kCompletions = "/v1/completions";

class CompletionsTest : public ServerTest {
 protected:
  CompletionsTest() { start(); }
  std::vector<int32_t> ids(const std::string& text) {
    return good("/tokenize", {{"prompt", text}})["tokens"].get<std::vector<int32_t>>();
  }
  static std::string text(const ordered_json& answer, size_t choice = 0) {
    return answer["choices"][choice]["text"];
  }
  static std::string joined(const std::vector<ordered_json>& events, size_t choice = 0) {
    std::string all;
    for (const ordered_json& e : events)
      for (const ordered_json& c : e["choices"])
        if (c["index"] == choice) all += c["text"].get<std::string>();
    return all;
  }
  const ordered_json greedy_ = {
      {"prompt", "Hello, my name is"}, {"max_tokens", 12}, {"temperature", 0}};
  ordered_json greedy(ordered_json extra) const {
    ordered_json body = greedy_;
    body.update(extra);
    return body;
  }
};

TEST_F(CompletionsTest, ShapeAndUsage) {
  const ordered_json a = complete(greedy({{"model", "alias"}}));
  EXPECT_EQ(a["object"], "text_completion");
  EXPECT_EQ(a["model"], "tiny");
  EXPECT_EQ(a["id"].get<std::string>().rfind("cmpl-", 0), 0u);
  ASSERT_EQ(a["choices"].size(), 1u);
  const ordered_json& c = a["choices"][0];
  EXPECT_EQ(c["finish_reason"], "length");
  for (const char* null : {"logprobs", "stop_reason", "prompt_logprobs"})
    EXPECT_TRUE(c.contains(null) && c[null].is_null()) << null;
  const size_t prompt = ids("Hello, my name is").size();
  EXPECT_EQ(a["usage"]["prompt_tokens"], prompt);
  EXPECT_EQ(a["usage"]["completion_tokens"], 12);
  EXPECT_EQ(a["usage"]["total_tokens"], prompt + 12);
  std::vector<std::string> order;
  for (const auto& [name, value] : a.items()) order.push_back(name);
  EXPECT_EQ(order,
            (std::vector<std::string>{"id", "object", "created", "model", "choices", "service_tier",
                                      "system_fingerprint", "usage", "kv_transfer_params"}));
}

TEST_F(CompletionsTest, PromptsInEveryShape) {
  const std::string hello = text(complete(greedy_)),
                    other = text(complete(greedy({{"prompt", "Once"}})));
  const auto a = ids("Hello, my name is"), b = ids("Once");
  EXPECT_EQ(text(complete(greedy({{"prompt", a}}))), hello);
  for (const ordered_json& prompt :
       {ordered_json({"Hello, my name is", "Once"}), ordered_json({a, b})}) {
    const ordered_json two = complete(greedy({{"prompt", prompt}}));
    ASSERT_EQ(two["choices"].size(), 2u);
    EXPECT_EQ(two["choices"][1]["index"], 1);
    EXPECT_EQ(text(two, 0), hello);
    EXPECT_EQ(text(two, 1), other);
    EXPECT_EQ(two["usage"]["prompt_tokens"], a.size() + b.size());
    EXPECT_EQ(two["usage"]["completion_tokens"], 24);
  }
}

TEST_F(CompletionsTest, Logprobs) {
  const ordered_json none = complete(greedy({{"logprobs", 0}}))["choices"][0]["logprobs"];
  ASSERT_EQ(none["tokens"].size(), 12u);
  for (const ordered_json& top : none["top_logprobs"]) EXPECT_EQ(top.size(), 1u);
  const ordered_json five = complete(greedy({{"logprobs", 5}}))["choices"][0]["logprobs"];
  for (const char* list : {"tokens", "token_logprobs", "text_offset", "top_logprobs"})
    EXPECT_EQ(five[list].size(), 12u);
  for (size_t i = 0; i < 12; ++i) {
    const double chosen = five["token_logprobs"][i];
    EXPECT_TRUE(chosen <= 0 && chosen >= -9999);
    EXPECT_LE(five["top_logprobs"][i].size(), 6u);
    EXPECT_EQ(five["top_logprobs"][i][five["tokens"][i].get<std::string>()], chosen);
  }
  EXPECT_EQ(bad(kCompletions, greedy({{"logprobs", 21}}))["param"], "logprobs");
  EXPECT_EQ(bad(kCompletions, greedy({{"logprobs", 21}, {"stream", true}}))["param"], "logprobs");
}

TEST_F(CompletionsTest, PromptLogprobs) {
  const ordered_json c = complete(greedy({{"prompt_logprobs", 2}}))["choices"][0];
  const auto prompt = ids("Hello, my name is");
  ASSERT_EQ(c["prompt_logprobs"].size(), prompt.size());
  EXPECT_TRUE(c["prompt_logprobs"][0].is_null());
  for (size_t i = 1; i < prompt.size(); ++i) {
    const ordered_json& entry = c["prompt_logprobs"][i];
    EXPECT_TRUE(entry.size() == 2 || entry.size() == 3);
    EXPECT_TRUE(entry.contains(std::to_string(prompt[i])));
  }
}

TEST_F(CompletionsTest, Echo) {
  ordered_json a = complete(greedy({{"echo", true}, {"max_tokens", 0}}));
  EXPECT_EQ(text(a), "Hello, my name is");
  EXPECT_EQ(a["choices"][0]["finish_reason"], "length");
  a = complete(greedy({{"echo", true}, {"logprobs", 1}}));
  EXPECT_EQ(text(a), "Hello, my name is" + text(complete(greedy_)));
  const ordered_json& l = a["choices"][0]["logprobs"];
  const size_t prompt = ids("Hello, my name is").size();
  EXPECT_EQ(l["tokens"].size(), prompt + 12);
  EXPECT_TRUE(l["token_logprobs"][0].is_null());
  EXPECT_FALSE(l["token_logprobs"][1].is_null());
  // Names join to the text, offsets are places in it; the first token is added to the text.
  EXPECT_EQ(l["tokens"][0], "<|begin_of_text|>");
  std::string joined_names;
  for (size_t i = 1; i < l["tokens"].size(); ++i) {
    EXPECT_EQ(l["text_offset"][i], std::count_if(joined_names.begin(), joined_names.end(),
                                                 [](char b) { return (b & 0xC0) != 0x80; }));
    joined_names += l["tokens"][i].get<std::string>();
  }
  EXPECT_EQ(joined_names, text(a));
  EXPECT_EQ(joined(stream(kCompletions, greedy({{"echo", true}}))), text(a));
}

TEST_F(CompletionsTest, StreamsAddUpToTheWhole) {
  const std::vector<ordered_json> events = stream(kCompletions, greedy_);
  EXPECT_EQ(joined(events), text(complete(greedy_)));
  std::set<std::string> ids;
  for (size_t i = 0; i < events.size(); ++i) {
    ids.insert(events[i]["id"].get<std::string>());
    EXPECT_EQ(events[i]["object"], "text_completion");
    EXPECT_FALSE(events[i].contains("usage"));
    EXPECT_EQ(events[i]["choices"][0]["finish_reason"].is_null(), i + 1 < events.size());
  }
  EXPECT_EQ(ids.size(), 1u);
}

TEST_F(CompletionsTest, StreamedUsage) {
  auto events = stream(kCompletions, greedy({{"stream_options", {{"include_usage", true}}}}));
  EXPECT_TRUE(events.back()["choices"].empty());
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 12);
  EXPECT_FALSE(events.front().contains("usage"));
  events = stream(
      kCompletions,
      greedy({{"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}}));
  int64_t before = 0;
  for (const ordered_json& e : events) {
    EXPECT_GE(e["usage"]["completion_tokens"], before);
    before = e["usage"]["completion_tokens"];
  }
  EXPECT_EQ(before, 12);

  // Each choice counts its own, the last event all.
  const size_t hi = ids("Hi").size(), there = ids("there you go").size();
  std::vector<size_t> counts(4, 0);
  events =
      stream(kCompletions,
             {{"prompt", {"Hi", "there you go"}},
              {"n", 2},
              {"max_tokens", 5},
              {"ignore_eos", true},
              {"stream_options", {{"include_usage", true}, {"continuous_usage_stats", true}}}});
  for (const ordered_json& e : events)
    for (const ordered_json& c : e["choices"]) {
      const size_t i = c["index"];
      EXPECT_EQ(e["usage"]["completion_tokens"], ++counts[i]);
      EXPECT_EQ(e["usage"]["prompt_tokens"], i < 2 ? hi : there);
    }
  EXPECT_EQ(counts, std::vector<size_t>(4, 5));
  EXPECT_EQ(events.back()["usage"]["completion_tokens"], 20);
  EXPECT_EQ(events.back()["usage"]["prompt_tokens"], hi + there);
}

TEST_F(CompletionsTest, SeveralAnswers) {
  const ordered_json body = {
      {"prompt", "Hi"}, {"max_tokens", 12}, {"n", 3}, {"seed", 1}, {"temperature", 1}};
  const ordered_json a = complete(body), b = complete(body);
  ASSERT_EQ(a["choices"].size(), 3u);
  EXPECT_NE(text(a, 0), text(a, 1));
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(text(a, i), text(b, i));
  EXPECT_EQ(a["usage"]["prompt_tokens"], ids("Hi").size());  // counted once
  const auto events = stream(kCompletions, body);
  size_t finished = 0;
  for (const ordered_json& e : events) {
    ASSERT_EQ(e["choices"].size(), 1u);
    finished += !e["choices"][0]["finish_reason"].is_null();
  }
  EXPECT_EQ(finished, 3u);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(joined(events, i), text(a, i));
}

TEST_F(CompletionsTest, StopStrings) {
  const ordered_json body = greedy({{"max_tokens", 40}, {"ignore_eos", true}});
  const std::string plain = text(complete(body));
  // A stop string from the text itself, at a character boundary.
  size_t at = plain.size() / 2;
  while ((static_cast<unsigned char>(plain[at]) & 0xC0) == 0x80) ++at;
  size_t end = std::min(at + 3, plain.size());
  while (end < plain.size() && (static_cast<unsigned char>(plain[end]) & 0xC0) == 0x80) ++end;
  ordered_json stopped = body;
  stopped["stop"] = {plain.substr(at, end - at)};
  const size_t found = plain.find(plain.substr(at, end - at));
  const ordered_json a = complete(stopped);
  EXPECT_EQ(text(a), plain.substr(0, found));
  EXPECT_EQ(a["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(a["choices"][0]["stop_reason"], stopped["stop"][0]);
  EXPECT_EQ(joined(stream(kCompletions, stopped)), plain.substr(0, found));
  stopped["include_stop_str_in_output"] = true;
  EXPECT_EQ(text(complete(stopped)), plain.substr(0, found + end - at));
}

TEST_F(CompletionsTest, StopTokensMinTokensAndIds) {
  const ordered_json a = complete(greedy({{"return_token_ids", true}, {"ignore_eos", true}}));
  const auto tokens = a["choices"][0]["token_ids"].get<std::vector<int32_t>>();
  ASSERT_EQ(tokens.size(), 12u);
  EXPECT_EQ(a["choices"][0]["prompt_token_ids"], ids("Hello, my name is"));
  const ordered_json b = complete(greedy({{"stop_token_ids", {tokens[3]}}}));
  EXPECT_EQ(b["choices"][0]["finish_reason"], "stop");
  EXPECT_EQ(b["choices"][0]["stop_reason"], tokens[3]);
  EXPECT_LE(b["usage"]["completion_tokens"], 4);
  const ordered_json c = complete(greedy({{"stop_token_ids", {tokens[3]}}, {"min_tokens", 10}}));
  EXPECT_GE(c["usage"]["completion_tokens"], 10);

  const auto events =
      stream(kCompletions, greedy({{"return_token_ids", true}, {"ignore_eos", true}}));
  std::vector<int32_t> streamed;
  for (size_t i = 0; i < events.size(); ++i) {
    const ordered_json& choice = events[i]["choices"][0];
    EXPECT_EQ(choice.contains("prompt_token_ids"), i == 0);
    for (int32_t id : choice["token_ids"]) streamed.push_back(id);
  }
  EXPECT_EQ(streamed, tokens);

  const ordered_json named = complete(
      greedy({{"logprobs", 1}, {"return_tokens_as_token_ids", true}, {"ignore_eos", true}}));
  EXPECT_EQ(named["choices"][0]["logprobs"]["tokens"][0], "token_id:" + std::to_string(tokens[0]));
}

TEST_F(CompletionsTest, Biases) {
  const auto tokens = [&](ordered_json extra) {
    extra["return_token_ids"] = true;
    return complete(greedy(extra))["choices"][0]["token_ids"].get<std::vector<int32_t>>();
  };
  EXPECT_EQ(tokens({{"logit_bias", {{"77", 100}}}}), std::vector<int32_t>(12, 77));
  EXPECT_EQ(tokens({{"allowed_token_ids", {78}}}), std::vector<int32_t>(12, 78));
  EXPECT_EQ(bad(kCompletions, greedy({{"logit_bias", {{"99999999", 1}}}}))["param"], "logit_bias");
  EXPECT_EQ(bad(kCompletions, greedy({{"allowed_token_ids", {99999999}}}))["param"],
            "allowed_token_ids");
  const ordered_json word = greedy({{"bad_words", {"the"}}, {"allowed_token_ids", ids("the cat")}});
  EXPECT_EQ(text(complete(word)).find("the"), std::string::npos);
  // Longer than any answer: never in one.
  complete(greedy({{"bad_words", {std::string(1 << 20, 'x')}}}));
}

TEST_F(CompletionsTest, MasksThatLeaveNothing) {
  const ordered_json word = {{"allowed_token_ids", ids("the")}, {"bad_words", {"the"}}};
  ordered_json one = word;
  one["allowed_token_ids"] = {ids("the").back()};
  EXPECT_EQ(bad(kCompletions, greedy(one))["param"], "allowed_token_ids");
  EXPECT_EQ(bad(kCompletions, greedy({{"allowed_token_ids", {2016}}, {"min_tokens", 1}}))["param"],
            "allowed_token_ids");
  EXPECT_EQ(complete(greedy({{"allowed_token_ids", {2016}}}))["usage"]["completion_tokens"], 1);
}

// The text and the ids of a prompt that ends inside a character.
TEST_F(CompletionsTest, CharactersThatPromptsEndIn) {
  std::vector<int32_t> prompt = ids("a \u9f98");  // a rare one: no token of its own
  prompt.pop_back();
  const ordered_json a = complete({{"prompt", prompt},
                                   {"temperature", 0},
                                   {"max_tokens", 1},
                                   {"echo", true},
                                   {"allowed_token_ids", {ids("a \u9f98").back()}}});
  EXPECT_EQ(text(a), "a \u9f98");
}

TEST_F(CompletionsTest, Context) {
  std::string words;
  for (size_t i = 0; i < kMaxModelLen; ++i) words += "xyzzy ";
  ordered_json e = bad(kCompletions, {{"prompt", words}});
  EXPECT_EQ(e["message"].get<std::string>().rfind("This model's maximum context length is 192", 0),
            0u);
  EXPECT_EQ(e["param"], "input_tokens");
  e = bad(kCompletions, {{"prompt", "Hi"}, {"max_tokens", 5000}});
  EXPECT_NE(e["message"].get<std::string>().find("maximum context length"), std::string::npos);
  EXPECT_NE(e["message"].get<std::string>().find("5000"), std::string::npos);
  e = bad(kCompletions, {{"prompt", std::string(10 << 20, 'a')}});
  EXPECT_NE(e["message"].get<std::string>().find("maximum context length"), std::string::npos);
  e = bad(kCompletions, {{"prompt", {999999999}}});
  EXPECT_NE(e["message"].get<std::string>().find("out of vocabulary"), std::string::npos);

  const auto all = ids("one two three four five six");
  const ordered_json cut = complete(greedy({{"prompt", all}, {"truncate_prompt_tokens", 4}}));
  EXPECT_EQ(cut["usage"]["prompt_tokens"], 4);
  const std::vector<int32_t> last(all.end() - 4, all.end());
  EXPECT_EQ(text(cut), text(complete(greedy({{"prompt", last}}))));
  const ordered_json fit = complete({{"prompt", std::vector<int32_t>(400, 5)},
                                     {"truncate_prompt_tokens", -1},
                                     {"max_tokens", 8}});
  EXPECT_EQ(fit["usage"]["prompt_tokens"], kMaxModelLen - 8);
}

TEST_F(CompletionsTest, TooMuchForOneRequest) {
  EXPECT_EQ(bad(kCompletions, {{"prompt", "Hi"}, {"n", 10000}})["param"], "n");
  EXPECT_EQ(
      bad(kCompletions, {{"prompt", std::vector<std::string>(1000, "Hi")}, {"n", 100}})["param"],
      "n");
}

TEST_F(CompletionsTest, Tokenization) {
  for (const std::string text : {"Hello", "Grüße, 世界 🎉", "a\n\n  b", ""}) {
    const ordered_json t = good("/tokenize", {{"prompt", text}, {"add_special_tokens", false}});
    EXPECT_EQ(t["count"], t["tokens"].size());
    EXPECT_EQ(t["max_model_len"], kMaxModelLen);
    EXPECT_TRUE(t["token_strs"].is_null());
    EXPECT_EQ(good("/detokenize", {{"tokens", t["tokens"]}})["prompt"], text);
  }
  const ordered_json with = good("/tokenize", {{"prompt", "Hi"}, {"return_token_strs", true}});
  EXPECT_EQ(with["token_strs"].size(), with["count"]);
  EXPECT_EQ(with["token_strs"][0], "<|begin_of_text|>");
  EXPECT_EQ(bad("/detokenize", {{"tokens", {99999999}}})["param"], "tokens");
  bad("/detokenize", {{"tokens", {-1}}});
  bad("/detokenize", ordered_json::object());
  bad("/tokenize", ordered_json::object());
  EXPECT_EQ(bad("/tokenize", {{"prompt", "Hi"}, {"model", "x"}}, 404)["param"], "model");
  EXPECT_EQ(good("/tokenize", {{"prompt", "Hi"}, {"model", ""}})["count"], with["count"]);
  // The context bounds answers, not counting.
  std::string book;
  for (int i = 0; i < 20000; ++i) book += "word after word, ";
  EXPECT_GT(good("/tokenize", {{"prompt", book}})["count"].get<size_t>(), 20000u);
}

}  // namespace
}  // namespace octet::server::tests
