// Names, bytes and offsets of tokens: they join to the text.
#include "src/server/api/logprobs.h"

#include <gtest/gtest.h>

#include "src/text/testing.h"

namespace octet::server {
namespace {

class LogprobsTest : public testing::Test {
 protected:
  static TokenLogprob chosen(int32_t id, std::vector<std::pair<int32_t, float>> top = {}) {
    return {id, -1, 1, std::move(top)};
  }
  static Logprobs all(const std::vector<int32_t>& ids) {
    Logprobs out;
    for (const int32_t id : ids) out.emplace_back(chosen(id, {{id, -1.0f}}));
    return out;
  }
  static ordered_json completion(const std::vector<int32_t>& ids, TokenNames names,
                                 bool whole = false) {
    ordered_json out;
    size_t offset = 0;
    append_completion_logprobs(ids, all(ids), whole, names, offset, out);
    return out;
  }
  static ordered_json of_text(std::string_view text, const text::Tokenizer& t) {
    const std::vector<text::PlacedToken> places = t.encode_places(text, true);
    std::vector<int32_t> ids;
    for (const text::PlacedToken& p : places) ids.push_back(p.id);
    const ordered_json c = completion(ids, TokenNames::of_text(t, false, text, places));
    std::string joined;
    for (size_t i = 1; i < ids.size(); ++i)  // behind the BOS that was added
      joined += c["tokens"][i].get<std::string>();
    EXPECT_EQ(joined, text);
    return c;
  }
  ordered_json of_text(std::string_view text) const { return of_text(text, bytes_); }
  const text::Tokenizer bytes_ = text::tests::byte_level_tokenizer();
  const text::Tokenizer words_ = text::tests::byte_fallback_tokenizer();
};

using Names = std::vector<std::string>;

TEST_F(LogprobsTest, SplitCharactersAreNamedWhereTheyAreComplete) {
  const std::vector<int32_t> ids = {'a', 0xE4, 0xBD, 0xA0, '!', 0xC3};
  const ordered_json c = completion(ids, TokenNames(bytes_, false, true));
  EXPECT_EQ(c["tokens"], (Names{"a", "", "", "\u4f60", "!", ""}));
  EXPECT_EQ(c["text_offset"], (std::vector<int>{0, 1, 1, 1, 2, 3}));
  TokenNames names(bytes_, false, true);
  std::string token_text, byte_text;
  const ordered_json chat = chat_logprobs(all(ids), /*whole=*/true, names);
  for (const ordered_json& entry : chat["content"]) {
    token_text += entry["token"].get<std::string>();
    for (const int b : entry["bytes"]) byte_text += static_cast<char>(b);
    EXPECT_EQ(entry["top_logprobs"][0]["token"], entry["token"]);
  }
  EXPECT_EQ(token_text, "a\u4f60!");
  EXPECT_EQ(byte_text, token_text);
  const ordered_json p = prompt_logprobs(ids, all(ids), bytes_);
  EXPECT_EQ(p[1]["228"]["decoded_token"], "");
  EXPECT_EQ(p[3]["160"]["decoded_token"], "\u4f60");
}

TEST_F(LogprobsTest, TheTextBeforeCounts) {
  EXPECT_EQ(completion({1, 2}, TokenNames(words_, false, true, std::vector<int32_t>{0}))["tokens"],
            (Names{" world", "!"}));
  EXPECT_EQ(completion({1, 2, 1}, TokenNames(words_, false, true))["tokens"],
            (Names{"world", "!", " world"}));
  EXPECT_EQ(completion({0xA0},
                       TokenNames(bytes_, false, true, std::vector<int32_t>{0xE4, 0xBD}))["tokens"],
            (Names{"\u4f60"}));
}

TEST_F(LogprobsTest, SpecialTokensOutsideTheTextTakeNoPlaceInIt) {
  const std::vector<int32_t> ids = {260, 'a', 261, 'b'};
  const Names names = {"<|bos|>", "a", "<|end|>", "b"};
  ordered_json c = completion(ids, TokenNames(bytes_, false, /*skip_special_tokens=*/true));
  EXPECT_EQ(c["tokens"], names);
  EXPECT_EQ(c["text_offset"], (std::vector<int>{0, 0, 1, 1}));
  TokenNames chat_names(bytes_, /*as_ids=*/true, /*skip_special_tokens=*/true);
  const ordered_json chat = chat_logprobs(all({'a', 261}), true, chat_names);
  EXPECT_EQ(chat["content"][1]["token"], "token_id:261");
  EXPECT_EQ(chat["content"][1]["bytes"], (std::vector<int>{'<', '|', 'e', 'n', 'd', '|', '>'}));
  c = completion(ids, TokenNames(bytes_, false, /*skip_special_tokens=*/false));
  EXPECT_EQ(c["text_offset"], (std::vector<int>{0, 7, 8, 15}));
  // The first was added, the second is in the request's text.
  c = of_text("a<|end|>b");
  EXPECT_EQ(c["tokens"], names);
  EXPECT_EQ(c["text_offset"], (std::vector<int>{0, 0, 1, 8}));
  // The one that was added comes first, also where the text spells it.
  c = of_text("<|bos|>a");
  EXPECT_EQ(c["tokens"], (Names{"<|bos|>", "<|bos|>", "a"}));
  EXPECT_EQ(c["text_offset"], (std::vector<int>{0, 0, 7}));
}

TEST_F(LogprobsTest, NamesOfATextJoinToIt) {
  // U+FFFD, also at the end; a character of four tokens.
  ordered_json c = of_text("x\ufffd\U0001f389\ufffd");
  EXPECT_EQ(c["tokens"],
            (Names{"<|bos|>", "x", "", "", "\ufffd", "", "", "", "\U0001f389", "", "", "\ufffd"}));
  EXPECT_EQ(c["text_offset"].back(), 3);
  // Composed (NFC) before it becomes tokens: the names are the text's own, decomposed.
  ordered_json composing = text::tests::byte_level_json();
  composing["normalizer"] = {{"type", "NFC"}};
  c = of_text("e\u0301 f", text::Tokenizer::from_json(composing.dump(), "test"));
  EXPECT_EQ(c["tokens"], (Names{"<|bos|>", "", "e\u0301", " ", "f"}));
  EXPECT_EQ(c["text_offset"], (std::vector<int>{0, 0, 0, 2, 3}));
}

TEST_F(LogprobsTest, TheLastTokenTakesWhatIsHeldBack) {
  // Of five broken bytes three could still become a character.
  const std::vector<int32_t> ids(5, 0xFF);
  EXPECT_EQ(completion(ids, TokenNames(bytes_, false, true), /*whole=*/true)["tokens"],
            (Names{"", "", "", "", "\ufffd\ufffd"}));
  EXPECT_EQ(completion(ids, TokenNames(bytes_, false, true), /*whole=*/false)["tokens"],
            (Names(5, "")));
}

TEST_F(LogprobsTest, OfTokensWithOneNameTheChosenCounts) {
  ordered_json out;
  size_t offset = 0;
  TokenNames names(bytes_, false, true);
  const std::vector<int32_t> ids = {0xE4};  // unfinished, as its rival is
  const Logprobs scores = {
      chosen(0xE4, {{'a', -0.5f}, {0xE4, -1.0f}, {0xC3, -2.0f}, {0xC4, -3.0f}})};
  append_completion_logprobs(ids, scores, false, names, offset, out);
  EXPECT_EQ(out["top_logprobs"][0], (ordered_json{{"", -1.0}, {"a", -0.5}}));
  TokenNames as_ids(bytes_, true, true);
  ordered_json numbered;
  append_completion_logprobs(ids, scores, false, as_ids, offset, numbered);
  EXPECT_EQ(numbered["top_logprobs"][0].size(), 4u);
  EXPECT_EQ(numbered["tokens"][0], "token_id:228");
}

}  // namespace
}  // namespace octet::server
