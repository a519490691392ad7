// Byte-level BPE tokenizers as a tokenizer.json, made of what older formats keep: tokens and
// merges.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/json.h"

namespace octet::text {

// How text becomes words before BPE, and what happens to a word.
struct BpeRules {
  const char* split = nullptr;  // regex whose matches are words; nullptr: GPT-2's, in ByteLevel
  bool digits = false;          // cut digits off one by one first
  bool nfc = false;             // normalize to Unicode's composed form
  bool ignore_merges = false;   // a word that is a token needs no merges
  bool prefix_space = false;    // a space goes before the text
};

inline constexpr const char* kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct BpeParts {
  BpeRules rules;
  // Every token once, those that are added among them: that pins their ids, wherever they lie.
  std::vector<std::pair<std::string, int64_t>> vocabulary;
  std::vector<std::string_view> merges;                        // "a b"
  ordered_json added = ordered_json::array();                  // entries of added_tokens
  std::vector<std::pair<std::string, int64_t>> before, after;  // special tokens around the text
};

// The tokenizer.json. Throws Error naming `where` for a merge that is not a pair.
ordered_json bpe_tokenizer_json(BpeParts parts, const std::string& where);

}  // namespace octet::text
