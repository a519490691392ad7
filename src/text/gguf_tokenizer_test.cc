#include "src/text/gguf_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/text/gguf_testing.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using tests::TinyGguf;

GgufTokenizerFiles files_of(const TinyGguf& tiny) {
  const auto builder = tiny.build();
  return gguf_tokenizer(GgufFile(builder.bytes(), "tiny.gguf"));
}

Tokenizer tokenizer_of(const TinyGguf& tiny) {
  return Tokenizer::from_json(files_of(tiny).tokenizer.dump(), "tiny");
}

std::string refusal(const TinyGguf& tiny) {
  try {
    files_of(tiny);
  } catch (const Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("tiny.gguf"));
    return e.what();
  }
  ADD_FAILURE() << "accepted";
  return {};
}

TEST(GgufTokenizer, CutsWordsAsTheFileSays) {
  const auto ids = [](const char* pre, const char* text) {
    TinyGguf t;
    t.pre = pre;
    return tokenizer_of(t).encode(text, false);
  };
  for (const char* pre :
       {"smollm", "gpt-2", "qwen2", "deepseek-r1-qwen", "llama-bpe", "starcoder"}) {
    SCOPED_TRACE(pre);
    EXPECT_THAT(ids(pre, "hell"), ElementsAre(258));
    EXPECT_THAT(ids(pre, "<|end|>hell<tool>"), ElementsAre(260, 258, 261));
  }
  // Only Qwen2 composes e and its accent.
  EXPECT_THAT(ids("qwen2", "e\u0301"), ElementsAre(0xC3, 0xA9));
  EXPECT_THAT(ids("smollm", "e\u0301"), ElementsAre('e', 0xCC, 0x81));
  const auto split = [&](const char* pre) {
    TinyGguf t;
    t.pre = pre;
    return files_of(t).tokenizer["pre_tokenizer"].dump();
  };
  EXPECT_THAT(split("llama-bpe"), HasSubstr("{1,3}"));
  EXPECT_EQ(split("deepseek-r1-qwen"), split("qwen2"));
  EXPECT_THAT(split("smollm"), HasSubstr("individual_digits"));
  EXPECT_THAT(split("gpt-2"), HasSubstr("\"use_regex\":true"));
}

TEST(GgufTokenizer, AddsBosWhereTheModelWantsIt) {
  const auto with_bos = [](const char* pre, int add_bos) {
    TinyGguf t;
    t.pre = pre;
    t.add_bos = add_bos;
    return tokenizer_of(t).encode("a", true);
  };
  EXPECT_THAT(with_bos("smollm", -1), ElementsAre('a'));
  EXPECT_THAT(with_bos("smollm", 1), ElementsAre(259, 'a'));
  EXPECT_THAT(with_bos("llama-bpe", -1), ElementsAre(259, 'a'));
  EXPECT_THAT(with_bos("llama-bpe", 0), ElementsAre('a'));
}

TEST(GgufTokenizer, KeepsIdsTypesAndTemplate) {
  const GgufTokenizerFiles files = files_of({});
  const Tokenizer t = Tokenizer::from_json(files.tokenizer.dump(), "tiny");
  EXPECT_EQ(t.vocab_size(), 262u);  // without the unused ones
  EXPECT_FALSE(t.has_token(262));
  EXPECT_TRUE(t.is_special(259));
  EXPECT_FALSE(t.is_special(261));
  const auto builder = TinyGguf().build();
  const GgufTokenIds ids = gguf_token_ids(GgufFile(builder.bytes(), "tiny.gguf"));
  EXPECT_EQ(ids.bos, 259);
  EXPECT_EQ(ids.pad, -1);
  EXPECT_THAT(ids.end_of_text, ElementsAre(260));
  EXPECT_EQ(files.tokenizer_config["eos_token"], "<|end|>");
  EXPECT_EQ(files.tokenizer_config["model_max_length"], 128);
  EXPECT_THAT(files.tokenizer_config["chat_template"].get<std::string>(), HasSubstr("messages"));
  EXPECT_EQ(files.special_tokens_map["bos_token"], "<|bos|>");
}

TEST(GgufTokenizer, RefusesWhatItDoesNotKnow) {
  EXPECT_THAT(refusal({.model = "llama"}), HasSubstr("tokenizer.ggml.model"));
  EXPECT_THAT(refusal({.pre = "deepseek-llm"}), HasSubstr("qwen2"));  // names what is known
  EXPECT_THAT(refusal({.pre = "deepseek-llm"}), HasSubstr("--tokenizer DIR"));
  EXPECT_THAT(refusal({.merges = {"he"}}), HasSubstr("merge"));
  EXPECT_THAT(refusal({.merges = {"he "}}), HasSubstr("merge"));
  EXPECT_THAT(refusal({.merges = {"nothing here"}}), HasSubstr("not a usable tokenizer"));
  EXPECT_THAT(refusal({.doubled_token = "he"}), HasSubstr("twice"));
  EXPECT_THAT(refusal({.doubled_token = "\xff"}), HasSubstr("UTF-8"));
  EXPECT_THAT(refusal({.types = {1, 2, 3}}), HasSubstr("token_type"));
  EXPECT_THAT(refusal({.types = std::vector<int32_t>(264, 5)}), HasSubstr("bos_token_id"));
}

}  // namespace
}  // namespace octet::text
