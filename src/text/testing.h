// Small tokenizers for the tests of this level, built in the test so that every id is known.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"
#include "src/text/tokenizer.h"

namespace octet::text::tests {

// How byte-level BPE spells a byte: itself when it prints, else a character from U+0100 on.
inline std::string spell_byte(int byte) {
  auto prints = [](int b) {
    return (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || (b >= 0xAE && b <= 0xFF);
  };
  int code = byte;
  if (!prints(byte)) {
    code = 0x100;
    for (int b = 0; b < byte; ++b) code += prints(b) ? 0 : 1;
  }
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

// Byte-level BPE: id b is the byte b; 256 "he", 257 "ll", 258 "hell", 259 "Ġw" (a space before w);
// special: 260 "<|bos|>", 261 "<|end|>"; 262 "<tool>" is added, not special. BOS by the
// post-processor.
inline ordered_json byte_level_json() {
  ordered_json vocab = ordered_json::object();
  for (int b = 0; b < 256; ++b) vocab[spell_byte(b)] = b;
  ordered_json merges = ordered_json::array();
  const std::vector<std::pair<std::string, std::string>> pairs = {
      {"h", "e"}, {"l", "l"}, {"he", "ll"}, {spell_byte(' '), "w"}};
  for (const auto& [a, b] : pairs) {
    merges.push_back({a, b});
    vocab[a + b] = vocab.size();
  }
  auto added = [](int id, const char* text, bool special) -> ordered_json {
    return {{"id", id},        {"content", text},     {"single_word", false}, {"lstrip", false},
            {"rstrip", false}, {"normalized", false}, {"special", special}};
  };
  const ordered_json byte_level = {{"type", "ByteLevel"},
                                   {"add_prefix_space", false},
                                   {"trim_offsets", true},
                                   {"use_regex", true}};
  ordered_json bos = {{"SpecialToken", {{"id", "<|bos|>"}, {"type_id", 0}}}};
  ordered_json text = {{"Sequence", {{"id", "A"}, {"type_id", 0}}}};
  ordered_json special = {{"<|bos|>",
                           {{"id", "<|bos|>"},
                            {"ids", ordered_json::array({260})},
                            {"tokens", ordered_json::array({"<|bos|>"})}}}};
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens",
           ordered_json::array({added(260, "<|bos|>", true), added(261, "<|end|>", true),
                                added(262, "<tool>", false)})},
          {"normalizer", nullptr},
          {"pre_tokenizer", byte_level},
          {"post_processor",
           {{"type", "TemplateProcessing"},
            {"single", ordered_json::array({bos, text})},
            {"pair", ordered_json::array({bos, text, text})},
            {"special_tokens", special}}},
          {"decoder", byte_level},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

inline Tokenizer byte_level_tokenizer() {
  return Tokenizer::from_json(byte_level_json().dump(), "test");
}

// In the manner of Llama 2: 0 "▁hello", 1 "▁world", 2 "!", 3 to 258 the bytes by themselves; the
// decoder strips the space at the start of the text.
inline Tokenizer byte_fallback_tokenizer() {
  ordered_json vocab = {{"\u2581hello", 0}, {"\u2581world", 1}, {"!", 2}};
  for (int b = 0; b < 256; ++b) {
    constexpr std::string_view kHex = "0123456789ABCDEF";
    vocab[std::string("<0x") + kHex[static_cast<size_t>(b / 16)] +
          kHex[static_cast<size_t>(b % 16)] + ">"] = 3 + b;
  }
  ordered_json steps = ordered_json::array();
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}});
  steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  const ordered_json json = {{"version", "1.0"},
                             {"added_tokens", ordered_json::array()},
                             {"normalizer", nullptr},
                             {"pre_tokenizer", nullptr},
                             {"post_processor", nullptr},
                             {"decoder", {{"type", "Sequence"}, {"decoders", steps}}},
                             {"model",
                              {{"type", "BPE"},
                               {"vocab", vocab},
                               {"merges", ordered_json::array()},
                               {"byte_fallback", true}}}};
  return Tokenizer::from_json(json.dump(), "test");
}

// In the manner of Llama 2's, too: a space is put before the text, words are whole tokens, and what
// is in none of them is its characters.
inline ordered_json spaced_words_json() {
  ordered_json vocab = ordered_json::object(), merges = ordered_json::array();
  const auto add = [&](const std::string& token) {
    if (!vocab.contains(token)) vocab[token] = vocab.size();
  };
  add("\u2581");
  for (const char c : std::string_view("helowrd!")) add(std::string(1, c));
  for (const std::string& word : {std::string("hello"), std::string("world")}) {
    std::string merged = "\u2581";
    for (const char c : word) {
      merges.push_back({merged, std::string(1, c)});
      add(merged += c);
    }
  }
  ordered_json steps = ordered_json::array();
  steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
  return {{"version", "1.0"},
          {"added_tokens", ordered_json::array()},
          {"normalizer", {{"type", "Sequence"}, {"normalizers", steps}}},
          {"pre_tokenizer", nullptr},
          {"post_processor", nullptr},
          {"decoder", nullptr},
          {"model", {{"type", "BPE"}, {"vocab", vocab}, {"merges", merges}}}};
}

}  // namespace octet::text::tests
