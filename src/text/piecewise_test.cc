// Long texts become the tokens that they become in one piece.
#include "src/text/piecewise.h"

#include <gtest/gtest.h>

#include <random>
#include <stdexcept>
#include <string>
#include <utility>

#include "src/base/error.h"
#include "src/text/testing.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

const std::string kModels = std::string(OCTET_SOURCE_DIR) + "/models/";

// Of pieces of a kilobyte; how many there were.
size_t pieces_of(const Tokenizer& t, const std::string& utf8, std::vector<int32_t>& ids) {
  size_t calls = 0, before = 0;
  const std::vector<PlacedToken> tokens = encode_piecewise(
      utf8, [&](std::string_view text) { return t.encode_places(text, false); },
      [&](size_t so_far) {
        EXPECT_GE(so_far, std::exchange(before, so_far));
        ++calls;
      },
      1024);
  size_t end = 0;
  for (const PlacedToken& p : tokens) {
    ids.push_back(p.id);
    EXPECT_LE(p.begin, p.end);
    EXPECT_GE(p.end, end);
    end = p.end;
  }
  return calls;
}

// Texts of pieces of every kind, about `bytes` long.
std::string mixture(std::mt19937& random, size_t bytes) {
  static const std::vector<std::string> kPieces = {" the",
                                                   " quantization",
                                                   "Hello, world!",
                                                   "\n\n",
                                                   "  ",
                                                   "    ",
                                                   "\t",
                                                   "1234567",
                                                   " 2024-02-29",
                                                   "3.14",
                                                   "don't",
                                                   "x = y[i] + 1;\n",
                                                   "\u4f60\u597d\uff0c\u4e16\u754c\u3002",
                                                   "\u6df1\u5ea6\u5b66\u4e60",
                                                   "e\u0301",
                                                   "\U0001F468\u200D\U0001F469",
                                                   "\U0001F600",
                                                   "\u041f\u0440\u0438\u0432\u0435\u0442",
                                                   "<|im_end|>",
                                                   "<|eot_id|>",
                                                   "\r\n",
                                                   "aGVsbG8gd29ybGQ",
                                                   "________",
                                                   "\u00a0",
                                                   "\uFFFD",
                                                   "...",
                                                   "/usr/lib",
                                                   "camelCase"};
  std::string text;
  while (text.size() < bytes) {
    const std::string& piece = kPieces[random() % kPieces.size()];
    for (size_t n = random() % 8 == 0 ? random() % 40 : 1; n > 0; --n) text += piece;
  }
  return text;
}

TEST(Piecewise, TheTokensAreThoseOfTheWholeText) {
  std::mt19937 random(7);  // the standard says what it yields
  for (const char* model : {"llama3_tiny_bf16", "qwen2_tiny_fp16", "qwen3_tiny_bf16"}) {
    const Tokenizer t = Tokenizer::load(kModels + model);
    for (int round = 0; round < 20; ++round) {
      const std::string text = mixture(random, 20'000);
      std::vector<int32_t> ids;
      EXPECT_GT(pieces_of(t, text, ids), 5u);
      ASSERT_EQ(ids, t.encode(text, false)) << model << ", round " << round;
    }
  }
}

// One kind all over: where the phase of a run counts, or nothing parts the words.
TEST(Piecewise, LongRuns) {
  for (const char* model : {"llama3_tiny_bf16", "qwen2_tiny_fp16"}) {
    const Tokenizer t = Tokenizer::load(kModels + model);
    for (const char* piece : {"1234567", "a", "ab", " ", "\n", "\u4f60\u597d", "\U0001F600",
                              "e\u0301", "word ", "<|im_end|>", "_", "\uFFFD", "\t \n", "aA"}) {
      std::string text;
      while (text.size() < 16'000) text += piece;
      std::vector<int32_t> ids;
      EXPECT_GT(pieces_of(t, text, ids), 2u) << piece;
      ASSERT_EQ(ids, t.encode(text, false)) << model << ": " << piece;
    }
  }
}

// A tokenizer that puts a space before a text is cut at spaces; where there are none it gets it
// whole.
TEST(Piecewise, TokenizersThatAddASpace) {
  const Tokenizer t = Tokenizer::from_json(tests::spaced_words_json().dump(), "test");
  std::string text;
  while (text.size() < 16'000) text += text.size() % 3 == 0 ? "hello world " : "world!hello ";
  std::vector<int32_t> ids;
  EXPECT_GT(pieces_of(t, text, ids), 5u);
  EXPECT_EQ(ids, t.encode(text, false));
  std::vector<int32_t> run;
  const std::string joined(16'000, 'h');
  pieces_of(t, joined, run);
  EXPECT_EQ(run, t.encode(joined, false));
}

// What decides how a run begins is far behind it.
TEST(Piecewise, RunsThatAreReadFromTheirEnd) {
  std::string start;
  while (start.size() < 1000) start += "word ";
  const auto many = [](std::string_view piece, size_t times) {
    std::string text;
    while (times-- > 0) text += piece;
    return text;
  };
  const auto check = [&](const ordered_json& json, const std::string& run) {
    const Tokenizer t = Tokenizer::from_json(json.dump(), "test");
    for (size_t shift = 0; shift < 4; ++shift) {
      const std::string text = start + std::string(shift, 'x') + run + start;
      std::vector<int32_t> ids;
      pieces_of(t, text, ids);
      EXPECT_EQ(ids, t.encode(text, false)) << shift << run.substr(0, 20);
    }
  };
  // Composition puts U+0316, of a lower class, before all others.
  ordered_json composing = tests::byte_level_json();
  composing["normalizer"] = {{"type", "NFC"}};
  check(composing, "a" + many("\u0315", 3000) + "\u0316");
  // Digits are grouped by three from the last one.
  ordered_json grouping = tests::byte_level_json();
  grouping["model"]["vocab"]["12"] = 263;
  grouping["model"]["merges"].push_back({"1", "2"});
  ordered_json steps = ordered_json::array();
  steps.push_back({{"type", "Split"},
                   {"pattern", {{"Regex", "\\d{1,3}(?=(?:\\d{3})*\\b)"}}},
                   {"behavior", "Isolated"},
                   {"invert", false}});
  steps.push_back({{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", true},
                   {"use_regex", false}});
  grouping["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  for (size_t digits : {3000, 3001, 3002})
    check(grouping, many("123", digits / 3) + many("1", digits % 3));
  // An added token takes in the white space before it.
  ordered_json stripping = tests::byte_level_json();
  ordered_json mask = stripping["added_tokens"][1];
  mask["id"] = 263;
  mask["content"] = "<mask>";
  mask["lstrip"] = true;
  stripping["added_tokens"].push_back(mask);
  check(stripping, many(" ", 5000) + "<mask>" + many(" ", 5000));
}

TEST(Piecewise, WhatTheCallbackThrowsEndsTheWork) {
  const Tokenizer t = tests::byte_level_tokenizer();
  const std::string text(4 * kPieceBytes, '7');
  size_t most = 0;
  EXPECT_THROW(t.encode(text, true, "",
                        [&](size_t tokens) {
                          most = tokens;
                          if (tokens > 100) throw std::runtime_error("enough");
                        }),
               std::runtime_error);
  EXPECT_LE(most, kPieceBytes);
  const std::vector<int32_t> ids = t.encode(text, true);
  EXPECT_EQ(ids.size(), text.size() + 1);
  EXPECT_EQ(ids[0], 260);
  EXPECT_EQ(t.encode_places(text, true).back(), (PlacedToken{'7', text.size() - 1, text.size()}));
  EXPECT_THROW(t.encode(text + "\xff", false), Error);
}

}  // namespace
}  // namespace octet::text
