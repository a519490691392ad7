#include "src/engine/stop_matcher.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "src/base/file.h"
#include "src/text/stream_decoder.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using Words = std::vector<std::string>;

// What comes out for every piece, and at the end.
Words outs(StopMatcher& stops, const Words& pieces) {
  Words out;
  for (const std::string& piece : pieces) out.push_back(stops.push(piece));
  out.push_back(stops.flush());
  return out;
}
Words outs(const Words& stop, const Words& pieces) {
  StopMatcher stops(stop, false);
  return outs(stops, pieces);
}

TEST(StopMatcher, WithoutStopsTextPasses) {
  EXPECT_THAT(outs(Words{}, {"a", "", "bc"}), ElementsAre("a", "", "bc", ""));
}

TEST(StopMatcher, FindsAStopAcrossPieces) {
  StopMatcher stops({"END"}, false);
  EXPECT_THAT(outs(stops, {"one E", "N", "D two", "three"}), ElementsAre("one ", "", "", "", ""));
  EXPECT_EQ(stops.matched(), "END");
}

TEST(StopMatcher, IncludesTheStopOnRequest) {
  StopMatcher stops({"END"}, true);
  EXPECT_THAT(outs(stops, {"one E", "ND two"}), ElementsAre("one ", "END", ""));
  EXPECT_EQ(stops.matched(), "END");
}

TEST(StopMatcher, LetsGoWhatIsNoStop) {
  EXPECT_THAT(outs({"END"}, {"E", "N", "C", "EN"}), ElementsAre("", "", "ENC", "", "EN"));
  // Of "aaa" one "a" can no longer be part of "aab"; the other two still can.
  EXPECT_THAT(outs({"aab"}, {"a", "a", "a", "b"}), ElementsAre("", "", "a", "", ""));
  // A failed beginning that holds another one.
  EXPECT_THAT(outs({"abab!"}, {"ab", "ab", "ab!"}), ElementsAre("", "", "ab", ""));
}

TEST(StopMatcher, HoldsForTheLongestBeginning) {
  StopMatcher stops({"bx", "abcd", "bcx"}, false);
  EXPECT_THAT(outs(stops, {"-abc", "x-"}), ElementsAre("-", "a", ""));
  EXPECT_EQ(stops.matched(), "bcx");
}

TEST(StopMatcher, OfSeveralInOnePieceTheEarliest) {
  for (const auto& [stop, text, out, matched] :
       {std::tuple<Words, std::string, std::string, std::string>{{"b", "a"}, "xab", "x", "a"},
        {{"wor", "world"}, "a world", "a ", "wor"},  // at one place the one listed first
        {{"world", "wor"}, "a world", "a ", "world"},
        {{"orl", "world"}, "a world", "a ", "world"}}) {
    StopMatcher stops(stop, true);
    EXPECT_EQ(stops.push(text), out + matched);
    EXPECT_EQ(stops.matched(), matched);
  }
}

TEST(StopMatcher, AStopCountsAsSoonAsItIsComplete) {
  StopMatcher stops({"world", "wor"}, false);
  EXPECT_THAT(outs(stops, {"a wo", "r", "ld"}), ElementsAre("a ", "", "", ""));
  EXPECT_EQ(stops.matched(), "wor");
}

TEST(StopMatcher, WholeCharacters) {
  // U+00E9 and U+00E8 share their first byte.
  EXPECT_THAT(outs({"\u00e9"}, {"\u00e8", "x\u00e9"}), ElementsAre("\u00e8", "x", ""));
  EXPECT_THAT(outs({"\u65e5\u672c"}, {"\u65e5", "\u5149", "\u65e5", "\u672c"}),
              ElementsAre("", "\u65e5\u5149", "", "", ""));
}

// Tokens that are single bytes: characters come whole out of the decoder, stops are found in them.
TEST(StopMatcher, CharactersSplitOverTokens) {
  const auto tokenizer =
      text::Tokenizer::load(fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16");
  const std::string text = "a \u65e5\u672c\u65e5\u5149!";
  const std::vector<int32_t> ids = tokenizer.encode(text, false);
  ASSERT_GT(ids.size(), 12u);  // of four characters with three bytes each
  for (const auto& [stop, want] : std::vector<std::pair<std::string, std::string>>{
           {"\u65e5\u5149", "a \u65e5\u672c"}, {"\u672c", "a \u65e5"}, {"\u5149x", text}}) {
    text::StreamDecoder decoder(tokenizer, true);
    StopMatcher stops({stop}, false);
    std::string out;
    for (int32_t id : ids) out += stops.push(decoder.push(id));
    out += stops.push(decoder.flush());
    EXPECT_EQ(out + stops.flush(), want);
    EXPECT_EQ(stops.matched().has_value(), want != text);
  }
}

// Text of the minimum of tokens: a stop string may begin in it, not end.
TEST(StopMatcher, StopsThatBeginBeforeTheyCount) {
  StopMatcher stops({"abc", "x"}, false);
  EXPECT_EQ(stops.push("abcx1a", false), "abcx1");
  EXPECT_EQ(stops.push("b", false), "");
  EXPECT_EQ(stops.push("c2"), "");
  EXPECT_EQ(stops.matched(), "abc");
  StopMatcher late({"aa"}, false);
  EXPECT_EQ(late.push("aaa", false), "aa");
  EXPECT_EQ(late.push("b"), "ab");  // "aa" was over before
  EXPECT_EQ(late.push("a"), "");
  EXPECT_EQ(late.push("a"), "");
  EXPECT_EQ(late.matched(), "aa");
  StopMatcher held({"abc"}, false);
  EXPECT_EQ(held.push("ab", false), "");
  EXPECT_EQ(held.push("d", false), "abd");
  EXPECT_EQ(held.push("ab", false), "");
  EXPECT_EQ(held.flush(), "ab");
}

// Random texts, stops and cuts. One stop: the text up to it, however it is cut. Several: what went
// out ends where the first of them to be complete begins.
TEST(StopMatcher, AgreesWithASearchInTheWhole) {
  std::mt19937 random(3);
  const auto word = [&](size_t longest) {
    std::string s(1 + random() % longest, 'a');
    for (char& c : s) c = "ab"[random() % 2];
    return s;
  };
  size_t found = 0;
  for (int round = 0; round < 20000; ++round) {
    const std::string text = word(24);
    Words stop(1 + random() % 3);
    for (std::string& s : stop) s = word(6);
    const bool by_character = stop.size() > 1;  // several stops: the cuts decide which is first
    StopMatcher stops(stop, false);
    std::string out;
    for (size_t at = 0; at < text.size();) {
      const size_t n = by_character ? 1 : 1 + random() % 5;
      out += stops.push(text.substr(at, n));
      at += n;
    }
    out += stops.flush();
    size_t end = std::string::npos, begin = text.size();  // of the stop that is complete first
    for (const std::string& s : stop)
      if (const size_t at = text.find(s); at != std::string::npos && at + s.size() <= end) {
        begin = at + s.size() < end ? at : std::min(begin, at);
        end = at + s.size();
      }
    ASSERT_EQ(out, text.substr(0, begin)) << text << ": " << ::testing::PrintToString(stop);
    ASSERT_EQ(stops.matched().has_value(), end != std::string::npos);
    found += stops.matched().has_value();
  }
  EXPECT_GT(found, 5000u);
  EXPECT_LT(found, 19000u);
}

}  // namespace
}  // namespace octet
