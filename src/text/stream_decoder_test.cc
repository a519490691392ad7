#include "src/text/stream_decoder.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>

#include "src/base/json.h"
#include "src/text/testing.h"

namespace octet::text {
namespace {

bool valid_utf8(const std::string& s) {
  try {
    (void)nlohmann::json(s).dump();
    return true;
  } catch (const nlohmann::json::exception&) {
    return false;
  }
}

// Pushes all ids; checks that no piece is broken UTF-8, and that each was foreseen.
std::string stream(const Tokenizer& t, const std::vector<int32_t>& ids, bool skip,
                   const std::vector<int32_t>& prompt = {}) {
  StreamDecoder decoder(t, skip, prompt);
  std::string text;
  for (const int32_t id : ids) {
    const bool long_run = decoder.window() >= 30;  // of broken bytes
    const std::string expected = decoder.peek(id);
    const std::string piece = decoder.push(id);
    EXPECT_TRUE(valid_utf8(piece));
    if (!long_run) {
      EXPECT_EQ(piece, expected);
    }
    text += piece;
  }
  return text + decoder.flush();
}

// The bytes of `text` in the tokenizer that spells some of them by themselves.
std::vector<int32_t> fallback_bytes(std::string_view text) {
  std::vector<int32_t> ids;
  for (const char c : text) ids.push_back(3 + static_cast<unsigned char>(c));
  return ids;
}

TEST(StreamDecoder, HoldsBackIncompleteCharacters) {
  const Tokenizer t = tests::byte_level_tokenizer();
  StreamDecoder decoder(t, true);
  EXPECT_EQ(decoder.push(258), "hell");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push(261), "");  // a skipped special token in between changes nothing
  EXPECT_EQ(decoder.push(0x98), "");
  EXPECT_EQ(decoder.push(0x80), "\U0001F600");
  EXPECT_EQ(decoder.push(0xC3), "");
  EXPECT_EQ(decoder.push('a'), "\uFFFDa");
  EXPECT_EQ(decoder.push(0xE4), "");
  EXPECT_EQ(decoder.flush(), "");     // a text ends before the character that it is cut in
  EXPECT_EQ(decoder.push('b'), "b");  // a new text
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, ShowsSpecialTokensOnRequest) {
  const Tokenizer t = tests::byte_level_tokenizer();
  EXPECT_EQ(stream(t, {260, 'a', 261, 262}, false), "<|bos|>a<|end|><tool>");
  EXPECT_EQ(stream(t, {260, 'a', 261, 262}, true), "a<tool>");
}

TEST(StreamDecoder, IgnoresIdsWithoutToken) {
  const Tokenizer t = tests::byte_level_tokenizer();
  EXPECT_EQ(stream(t, {'a', 263, -1, INT32_MAX, 'b'}, false), "ab");
}

TEST(StreamDecoder, AddsUpToTheWholeForAnyBytes) {
  const Tokenizer t = tests::byte_level_tokenizer();
  std::mt19937 random(1);
  // Bytes that make long runs of broken and half-broken characters likely.
  const std::vector<int32_t> bytes = {0x80, 0xBF, 0xC3, 0xE4, 0xBD, 0xA0, 0xED, 0xF0,
                                      0x9F, 0x98, 0xF4, 0xFF, 'a',  258,  261,  262};
  for (int round = 0; round < 400; ++round) {
    const size_t kinds = 1 + random() % bytes.size();
    std::vector<int32_t> ids;
    for (size_t i = 0; i < 100; ++i) ids.push_back(bytes[random() % kinds]);
    for (const bool skip : {false, true}) {
      const std::string streamed = stream(t, ids, skip), all = t.decode(ids, skip);
      ASSERT_EQ(streamed, all.substr(0, streamed.size()));
      const std::string cut = all.substr(streamed.size());
      EXPECT_TRUE(cut.empty() || cut == "\uFFFD" || cut == "\uFFFD\uFFFD" ||
                  cut == "\uFFFD\uFFFD\uFFFD");
    }
  }
}

TEST(StreamDecoder, DecodesFewTokensAtEachStep) {
  const Tokenizer t = tests::byte_level_tokenizer();
  for (const std::vector<int32_t>& unit :
       {std::vector<int32_t>{0xFF}, {0xF0, 0x9F, 0x98}, {0x80}, {'a'}, {0xE4, 0xBD, 0xA0}}) {
    StreamDecoder decoder(t, true);
    size_t most = 0;
    for (size_t i = 0; i < 16000; ++i) {
      decoder.push(unit[i % unit.size()]);
      most = std::max(most, decoder.window());
    }
    EXPECT_LE(most, 48u) << "unit that starts with " << unit[0];
  }
}

TEST(StreamDecoder, KeepsSpacesOfDecodersThatStripTheFirst) {
  const Tokenizer t = tests::byte_fallback_tokenizer();
  const std::vector<int32_t> ids = {0, 1, 2, 1, 3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 2, 0};
  EXPECT_EQ(t.decode(ids, true), "hello world! world\u4f60! hello");
  EXPECT_EQ(stream(t, ids, true), t.decode(ids, true));
}

// Llama 2 spells what is not in its vocabulary in bytes, one character after another.
TEST(StreamDecoder, CharactersInARowOfByteTokens) {
  const Tokenizer t = tests::byte_fallback_tokenizer();
  for (const std::string text : {"\u4f60\u597d\u4e16\u754c", "\U0001F600\U0001F601x\U0001F602",
                                 "\u00e4\u00f6\u00fc\u00df"}) {
    EXPECT_EQ(stream(t, fallback_bytes(text), true), text);
    for (size_t cut = 1; cut < text.size(); ++cut) {
      std::vector<int32_t> ids = fallback_bytes(text);
      const std::vector<int32_t> prompt(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(cut));
      ids.erase(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(cut));
      size_t begin = cut;  // of the character that the prompt ends in
      while ((static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
      EXPECT_EQ(stream(t, ids, true, prompt), text.substr(begin)) << cut;
    }
  }
  // Whole decoding takes back the first character, too, which is out already here.
  StreamDecoder decoder(t, true);
  std::string text;
  for (const int32_t id : fallback_bytes("\u4f60\xE5")) text += decoder.push(id);
  EXPECT_EQ(text, "\u4f60");
  EXPECT_EQ(decoder.push(2), "\uFFFD!");
}

TEST(StreamDecoder, TheFirstTokenKeepsItsSpaceBehindAPrompt) {
  const Tokenizer t = tests::byte_fallback_tokenizer();
  const std::vector<int32_t> prompt = {0, 1, 2, 1, 2, 0};
  for (size_t n = 0; n <= prompt.size(); ++n) {
    const std::vector<int32_t> before(prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(n));
    EXPECT_EQ(stream(t, {1, 2, 0}, true, before), n == 0 ? "world! hello" : " world! hello") << n;
  }
}

TEST(StreamDecoder, APromptThatEndsInsideACharacter) {
  const Tokenizer t = tests::byte_level_tokenizer();
  for (const std::vector<int32_t>& prompt : {std::vector<int32_t>{0xF0},
                                             {0xF0, 0x9F},
                                             {258, 0xF0, 0x9F, 0x98},
                                             {260, 0xF0, 0x9F, 261}}) {
    std::vector<int32_t> rest;
    const std::vector<int32_t> smile = {0xF0, 0x9F, 0x98, 0x80};
    size_t known = 0;
    for (const int32_t id : prompt) known += id >= 0x80 && id < 0x100;
    rest.assign(smile.begin() + static_cast<ptrdiff_t>(known), smile.end());
    rest.push_back('!');
    EXPECT_EQ(stream(t, rest, true, prompt), "\U0001F600!");
  }
  // Broken bytes that are the prompt's own stay there.
  EXPECT_EQ(stream(t, {'b'}, true, {'a', 0xFF, 'a'}), "b");
  EXPECT_EQ(stream(t, {'b'}, true, std::vector<int32_t>(100, 0x80)).substr(0, 3), "\uFFFD");
  EXPECT_EQ(stream(t, {'b', 'c'}, true, {260, 261}), "bc");
}

TEST(StreamDecoder, APromptThatIsATextEndsWithAWholeCharacter) {
  const Tokenizer t = tests::byte_level_tokenizer();
  for (const char* prompt :
       {"x\uFFFD", "\uFFFD", "\uFFFD\uFFFD\uFFFD\uFFFD", "a\uFFFD\uFFFD", "", "x"}) {
    const std::vector<int32_t> ids = t.encode(prompt, false);
    StreamDecoder decoder(t, true, ids, /*prompt_is_text=*/true);
    EXPECT_EQ(decoder.push('!'), "!") << prompt;
    EXPECT_EQ(decoder.push(0xC3), "") << prompt;
    EXPECT_EQ(decoder.push(0xA4), "\u00e4") << prompt;
    EXPECT_EQ(decoder.flush(), "") << prompt;
  }
  // One of ids may end in the middle.
  const std::vector<int32_t> cut = {'x', 0xE4, 0xBD};
  StreamDecoder decoder(t, true, cut);
  EXPECT_EQ(decoder.push(0xA0), "\u4f60");
}

}  // namespace
}  // namespace octet::text
