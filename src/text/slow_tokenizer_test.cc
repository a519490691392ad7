// vocab.json and merges.txt taken out of a tokenizer.json must give its ids again: those that
// `tokenizers` for Python gave (tools/token_cases.py).
#include "src/text/slow_tokenizer.h"

#include <gmock/gmock.h>

#include "src/checkpoint/testing.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

using octet::tests::message_of;
using octet::tests::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const fs::path kRoot = OCTET_SOURCE_DIR;
const fs::path kQwen = kRoot / "models/qwen2_tiny_fp16";

class SlowTokenizer : public ::testing::Test {
 protected:
  SlowTokenizer() {
    fast_ = parse_json(read_text(kQwen / "tokenizer.json"), "tokenizer.json");
    config_ = parse_json(read_text(kQwen / "tokenizer_config.json"), "tokenizer_config.json");
    config_["tokenizer_class"] = "Qwen2Tokenizer";
    vocab_ = fast_["model"]["vocab"];
    for (const json& token : fast_["added_tokens"]) vocab_.erase(token["content"]);
    for (const json& merge : fast_["model"]["merges"])
      merges_ += merge[0].get<std::string>() + " " + merge[1].get<std::string>() + "\n";
  }

  Tokenizer load() {
    write_text(dir_ / "vocab.json", vocab_.dump());
    write_text(dir_ / "merges.txt", "#version: 0.2\n" + merges_);
    write_text(dir_ / "tokenizer_config.json", config_.dump());
    return Tokenizer::load(dir_.path());
  }
  void expect_recorded_cases(const Tokenizer& t) {
    const fs::path file = kRoot / "tests/data/token_cases_qwen2_tiny.json";
    for (const json& c : parse_json(read_text(file), file.string()))
      EXPECT_EQ(t.encode(c["text"].get<std::string>(), true), c["ids"].get<std::vector<int32_t>>())
          << c["text"];
  }

  TempFolder dir_{"slow_tokenizer"};
  json fast_, config_, vocab_;
  std::string merges_;
};

TEST_F(SlowTokenizer, OfQwenGivesTheIdsOfItsFastOne) {
  const Tokenizer t = load();
  expect_recorded_cases(t);
  EXPECT_EQ(t.vocab_size(), Tokenizer::load(kQwen).vocab_size());
  EXPECT_TRUE(t.is_special(*t.token_to_id("<|im_end|>")));
  EXPECT_FALSE(t.is_special(*t.token_to_id("<tool_call>")));
}

TEST_F(SlowTokenizer, MayNameItsClassByTheModel) {
  config_.erase("tokenizer_class");
  EXPECT_THAT(message_of([&] { load(); }), HasSubstr("found nothing"));
  write_text(dir_ / "config.json", R"({"model_type": "qwen2"})");
  expect_recorded_cases(load());
  config_["tokenizer_class"] = "Qwen2TokenizerFast";
  expect_recorded_cases(load());
}

TEST_F(SlowTokenizer, MayKeepItsAddedTokensInOlderFiles) {
  json added = json::object();
  for (const json& token : fast_["added_tokens"]) added[token["content"]] = token["id"];
  write_text(dir_ / "added_tokens.json", added.dump());
  write_text(dir_ / "special_tokens_map.json",
             R"({"eos_token": {"content": "<|im_end|>"},
                 "additional_special_tokens": ["<|im_start|>", "<|new|>"]})");
  config_ = {{"tokenizer_class", "Qwen2Tokenizer"}};
  const Tokenizer t = load();
  expect_recorded_cases(t);
  for (const char* token : {"<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|new|>"})
    EXPECT_TRUE(t.is_special(*t.token_to_id(token))) << token;
  EXPECT_EQ(*t.token_to_id("<|new|>"), 2040);  // behind the last, </tool_response>
}

// GPT-2 cuts words by the regex of ByteLevel and adds BOS where add_bos_token says so.
TEST_F(SlowTokenizer, OfGpt2) {
  vocab_ = {{"a", 0}, {"b", 1}, {"ab", 2}, {"\u0120", 3}};
  merges_ = "a b\r\n";
  config_ = {{"tokenizer_class", "GPT2Tokenizer"}};
  EXPECT_THAT(load().encode("ab a", true), ElementsAre(2, 3, 0));
  config_["add_bos_token"] = true;
  EXPECT_THAT(load().encode("ab", true), ElementsAre(4, 2));
  config_["add_prefix_space"] = true;
  EXPECT_THAT(load().encode("ab", false), ElementsAre(3, 2));
  config_["bos_token"] = "b";
  EXPECT_THAT(load().encode("a", true), ElementsAre(1, 3, 0));
}

TEST_F(SlowTokenizer, WhatCannotBeMadeIsNamedWithAWayOut) {
  config_["tokenizer_class"] = "LlamaTokenizer";
  EXPECT_THAT(message_of([&] { load(); }), HasSubstr("LlamaTokenizer"));
  config_["tokenizer_class"] = "Qwen2Tokenizer";
  vocab_["x"] = -1;
  EXPECT_THAT(message_of([&] { load(); }), HasSubstr("vocab.json"));
  vocab_["x"] = 5000;
  merges_ += "alone\n";
  EXPECT_THAT(message_of([&] { load(); }), HasSubstr("merges.txt"));
  fs::remove(dir_ / "merges.txt");
  EXPECT_THAT(message_of([&] { Tokenizer::load(dir_.path()); }), HasSubstr("copy it"));
  write_text(dir_ / "tokenizer.model", "");
  EXPECT_THAT(message_of([&] { Tokenizer::load(dir_.path()); }), HasSubstr("save_pretrained"));
}

}  // namespace
}  // namespace octet::text
