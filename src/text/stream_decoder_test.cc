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

// Pushes all ids; checks that no piece is broken UTF-8.
std::string stream(const Tokenizer& t, const std::vector<int32_t>& ids, bool skip) {
  StreamDecoder decoder(t, skip);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = decoder.push(id);
    EXPECT_TRUE(valid_utf8(piece));
    text += piece;
  }
  return text + decoder.flush();
}

TEST(StreamDecoder, HoldsBackIncompleteCharacters) {
  const Tokenizer t = testing::byte_level_tokenizer();
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
  EXPECT_EQ(decoder.flush(), "\uFFFD");
  EXPECT_EQ(decoder.push('b'), "b");  // a new sequence
  EXPECT_EQ(decoder.flush(), "");
}

TEST(StreamDecoder, ShowsSpecialTokensOnRequest) {
  const Tokenizer t = testing::byte_level_tokenizer();
  EXPECT_EQ(stream(t, {260, 'a', 261, 262}, false), "<|bos|>a<|end|><tool>");
  EXPECT_EQ(stream(t, {260, 'a', 261, 262}, true), "a<tool>");
}

TEST(StreamDecoder, IgnoresIdsWithoutToken) {
  const Tokenizer t = testing::byte_level_tokenizer();
  EXPECT_EQ(stream(t, {'a', 263, -1, INT32_MAX, 'b'}, false), "ab");
}

TEST(StreamDecoder, AddsUpToTheWholeForAnyBytes) {
  const Tokenizer t = testing::byte_level_tokenizer();
  std::mt19937 random(1);
  // Bytes that make long runs of broken and half-broken characters likely.
  const std::vector<int32_t> bytes = {0x80, 0xBF, 0xC3, 0xE4, 0xBD, 0xA0, 0xED, 0xF0,
                                      0x9F, 0x98, 0xF4, 0xFF, 'a',  258,  261,  262};
  for (int round = 0; round < 400; ++round) {
    const size_t kinds = 1 + random() % bytes.size();
    std::vector<int32_t> ids;
    for (size_t i = 0; i < 100; ++i) ids.push_back(bytes[random() % kinds]);
    for (const bool skip : {false, true}) EXPECT_EQ(stream(t, ids, skip), t.decode(ids, skip));
  }
}

TEST(StreamDecoder, DecodesFewTokensAtEachStep) {
  const Tokenizer t = testing::byte_level_tokenizer();
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
  const Tokenizer t = testing::byte_fallback_tokenizer();
  const std::vector<int32_t> ids = {0, 1, 2, 1, 3 + 0xE4, 3 + 0xBD, 3 + 0xA0, 2, 0};
  EXPECT_EQ(t.decode(ids, true), "hello world! world\u4f60! hello");
  EXPECT_EQ(stream(t, ids, true), t.decode(ids, true));
}

}  // namespace
}  // namespace octet::text
