#include "src/text/bpe_json.h"

#include "src/base/error.h"
#include "src/base/json_member.h"

namespace octet::text {
namespace {

using Tokens = std::vector<std::pair<std::string, int64_t>>;

ordered_json byte_level(bool prefix_space, bool trim_offsets, bool regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", regex}};
}

ordered_json pre_tokenizer(const BpeRules& rules) {
  ordered_json steps = ordered_json::array();
  if (rules.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (rules.split != nullptr) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", rules.split}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(rules.prefix_space, true, rules.split == nullptr));
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

ordered_json post_processor(const Tokens& before, const Tokens& after) {
  if (before.empty() && after.empty()) return byte_level(true, false, true);
  ordered_json specials = ordered_json::object();
  const auto sequence = [&](const char* name, int type) {
    ordered_json steps = ordered_json::array();
    const auto add = [&](const Tokens& tokens) {
      for (const auto& [token, id] : tokens) {
        specials[token] = {{"id", token},
                           {"ids", ordered_json::array({id})},
                           {"tokens", ordered_json::array({token})}};
        steps.push_back({{"SpecialToken", {{"id", token}, {"type_id", type}}}});
      }
    };
    add(before);
    steps.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    add(after);
    return steps;
  };
  const ordered_json single = sequence("A", 0);
  ordered_json pair = single;
  for (ordered_json& step : sequence("B", 1)) pair.push_back(std::move(step));
  return {{"type", "Sequence"},
          {"processors",
           {byte_level(true, false, true),
            {{"type", "TemplateProcessing"},
             {"single", single},
             {"pair", pair},
             {"special_tokens", specials}}}}};
}

}  // namespace

ordered_json bpe_tokenizer_json(BpeParts parts, const std::string& where) {
  ordered_json vocab = ordered_json::object();
  for (auto& [token, id] : parts.vocabulary) append_member(vocab, std::move(token), id);
  ordered_json merges = ordered_json::array();
  for (const std::string_view merge : parts.merges) {
    // A byte-level token has no space in it, so the first space is the separator.
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size())
      throw Error("a merge is not a pair of tokens").file(where).found(std::string(merge));
    merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  const BpeRules& rules = parts.rules;
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(parts.added)},
          {"normalizer", rules.nfc ? ordered_json{{"type", "NFC"}} : ordered_json()},
          {"pre_tokenizer", pre_tokenizer(rules)},
          {"post_processor", post_processor(parts.before, parts.after)},
          {"decoder", byte_level(true, true, true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", rules.ignore_merges},
            {"vocab", std::move(vocab)},
            {"merges", std::move(merges)}}}};
}

}  // namespace octet::text
