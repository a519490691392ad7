#include "src/text/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "src/base/error.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kPre = "tokenizer.ggml.pre";

// tokenizer.ggml.token_type.
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

// How text is cut into words before BPE.
struct PreTokenizer {
  const char* name;     // tokenizer.ggml.pre
  const char* split;    // regex whose matches are words; nullptr: GPT-2's, built into ByteLevel
  bool digits;          // cut digits off one by one first
  bool nfc;             // normalize to Unicode's composed form
  bool ignore_merges;   // a word that is a token needs no merges
  bool bos_by_default;  // when the file does not say
};

constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", nullptr, false, false, false, false},
    {"gpt2", nullptr, false, false, false, false},
    {"smollm", nullptr, true, false, false, false},
    {"starcoder", nullptr, true, false, false, false},
    {"llama-bpe", kLlama3Split, false, false, true, true},
    {"llama3", kLlama3Split, false, false, true, true},
    {"llama-v3", kLlama3Split, false, false, true, true},
    {"qwen2", kQwen2Split, false, true, false, false},
};

struct Vocabulary {
  std::vector<std::string_view> tokens;
  std::vector<int64_t> types;

  bool used(size_t id) const { return types[id] != kUnused; }
  bool added(size_t id) const { return types[id] == kControl || types[id] == kUserDefined; }
};

Error bad(const GgufFile& gguf, const char* key, std::string what) {
  return Error(std::move(what)).file(gguf.name()).field(key);
}

const PreTokenizer& pre_tokenizer(const GgufFile& gguf) {
  const std::string_view model = gguf.get_string("tokenizer.ggml.model");
  if (model != "gpt2") {
    throw bad(gguf, "tokenizer.ggml.model", "unsupported tokenizer")
        .expected("gpt2 (byte-level BPE)")
        .found(std::string(model));
  }
  const std::string_view name = gguf.get_string(kPre);
  std::string known;
  for (const PreTokenizer& p : kPreTokenizers) {
    if (name == p.name) return p;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", p.name);
  }
  throw bad(gguf, kPre, "unsupported pre-tokenizer").expected(known).found(std::string(name));
}

Vocabulary vocabulary(const GgufFile& gguf) {
  Vocabulary v{gguf.get_strings(kTokens), {}};
  v.types = gguf.has(kTypes) ? gguf.get_ints(kTypes)
                             : std::vector<int64_t>(v.tokens.size(), int64_t{kNormal});
  if (v.tokens.empty() || v.tokens.size() > size_t{INT32_MAX} ||
      v.types.size() != v.tokens.size()) {
    throw bad(gguf, kTypes, "token types do not match the tokens")
        .expected(std::to_string(v.tokens.size()))
        .found(std::to_string(v.types.size()));
  }
  std::unordered_set<std::string_view> seen;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (v.used(id) && !seen.insert(v.tokens[id]).second)
      throw bad(gguf, kTokens, "a token occurs twice").found(std::string(v.tokens[id]));
  }
  return v;
}

// The id at `key` when the file has it; it must be a token.
std::optional<int32_t> token_id(const GgufFile& gguf, const char* key, const Vocabulary& v) {
  if (!gguf.has(key)) return std::nullopt;
  const uint64_t id = gguf.get_uint(key);
  if (id >= v.tokens.size() || !v.used(id)) {
    throw bad(gguf, key, "is not the id of a token")
        .expected(fmt::format("below {}", v.tokens.size()))
        .found(std::to_string(id));
  }
  return static_cast<int32_t>(id);
}

bool flag_or(const GgufFile& gguf, const char* key, bool fallback) {
  return gguf.has(key) ? gguf.get_bool(key) : fallback;
}

ordered_json byte_level(bool prefix_space, bool trim_offsets, bool regex) {
  return {{"type", "ByteLevel"},
          {"add_prefix_space", prefix_space},
          {"trim_offsets", trim_offsets},
          {"use_regex", regex}};
}

ordered_json pre_tokenizer_json(const PreTokenizer& pre) {
  ordered_json steps = ordered_json::array();
  if (pre.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (pre.split != nullptr) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pre.split}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  steps.push_back(byte_level(false, true, pre.split == nullptr));
  if (steps.size() == 1) return steps[0];
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

// Adds BOS before and EOS after the text where the model wants them.
ordered_json post_processor_json(const Vocabulary& v, std::optional<int32_t> bos,
                                 std::optional<int32_t> eos) {
  if (!bos && !eos) return byte_level(true, false, true);
  ordered_json specials = ordered_json::object();
  auto special = [&](int32_t id, int type) -> ordered_json {
    const std::string token(v.tokens[static_cast<size_t>(id)]);
    specials[token] = {{"id", token},
                       {"ids", ordered_json::array({id})},
                       {"tokens", ordered_json::array({token})}};
    return {{"SpecialToken", {{"id", token}, {"type_id", type}}}};
  };
  auto sequence = [&](const char* name, int type) {
    ordered_json steps = ordered_json::array();
    if (bos) steps.push_back(special(*bos, type));
    steps.push_back({{"Sequence", {{"id", name}, {"type_id", type}}}});
    if (eos) steps.push_back(special(*eos, type));
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

ordered_json added_token_json(const Vocabulary& v, size_t id, bool with_id) {
  ordered_json token = ordered_json::object();
  if (with_id) token["id"] = id;
  token["content"] = v.tokens[id];
  for (const char* property : {"single_word", "lstrip", "rstrip", "normalized"})
    token[property] = false;
  token["special"] = v.types[id] == kControl;
  return token;
}

ordered_json tokenizer_json(const GgufFile& gguf, const PreTokenizer& pre, const Vocabulary& v,
                            std::optional<int32_t> bos, std::optional<int32_t> eos) {
  // Appended without ordered_json's look-up of each key, which would take quadratic time over a
  // whole vocabulary; vocabulary() has checked that no token occurs twice.
  ordered_json vocab = ordered_json::object();
  auto& entries = vocab.get_ref<ordered_json::object_t&>();
  ordered_json added = ordered_json::array();
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (!v.used(id)) continue;  // padding rows of the embedding
    // Added tokens are put into the vocabulary as well: that pins their ids, wherever they lie.
    entries.push_back({std::string(v.tokens[id]), ordered_json(id)});
    if (v.added(id)) added.push_back(added_token_json(v, id, true));
  }
  ordered_json merges = ordered_json::array();
  for (const std::string_view merge : gguf.get_strings(kMerges)) {
    // A byte-level token has no space in it, so the first space is the separator.
    const size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos || space + 1 == merge.size())
      throw bad(gguf, kMerges, "a merge is not a pair of tokens").found(std::string(merge));
    merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", pre.nfc ? ordered_json{{"type", "NFC"}} : ordered_json()},
          {"pre_tokenizer", pre_tokenizer_json(pre)},
          {"post_processor", post_processor_json(v, bos, eos)},
          {"decoder", byte_level(true, true, true)},
          {"model",
           {{"type", "BPE"},
            {"dropout", nullptr},
            {"unk_token", nullptr},
            {"continuing_subword_prefix", nullptr},
            {"end_of_word_suffix", nullptr},
            {"fuse_unk", false},
            {"byte_fallback", false},
            {"ignore_merges", pre.ignore_merges},
            {"vocab", std::move(vocab)},
            {"merges", std::move(merges)}}}};
}

ordered_json chat_template_json(const GgufFile& gguf) {
  constexpr const char* kTemplate = "tokenizer.chat_template";
  constexpr const char* kToolUse = "tokenizer.chat_template.tool_use";
  if (!gguf.has(kTemplate)) return nullptr;
  const ordered_json standard = gguf.get_string(kTemplate);
  if (!gguf.has(kToolUse)) return standard;
  return {{{"name", "default"}, {"template", standard}},
          {{"name", "tool_use"}, {"template", gguf.get_string(kToolUse)}}};
}

}  // namespace

GgufTokenizerFiles gguf_tokenizer(const GgufFile& gguf) {
  const PreTokenizer& pre = pre_tokenizer(gguf);
  const Vocabulary v = vocabulary(gguf);
  const auto bos = token_id(gguf, "tokenizer.ggml.bos_token_id", v);
  const auto eos = token_id(gguf, "tokenizer.ggml.eos_token_id", v);
  const auto pad = token_id(gguf, "tokenizer.ggml.padding_token_id", v);
  const auto unknown = token_id(gguf, "tokenizer.ggml.unknown_token_id", v);
  const bool add_bos = bos && flag_or(gguf, "tokenizer.ggml.add_bos_token", pre.bos_by_default);
  const bool add_eos = eos && flag_or(gguf, "tokenizer.ggml.add_eos_token", false);

  GgufTokenizerFiles files;
  files.bos = bos.value_or(-1);
  files.pad = pad.value_or(-1);
  const auto eot = token_id(gguf, "tokenizer.ggml.eot_token_id", v);
  const auto eom = token_id(gguf, "tokenizer.ggml.eom_token_id", v);
  for (const auto& id : {eos, eot, eom}) {
    if (id && std::find(files.end_of_text.begin(), files.end_of_text.end(), *id) ==
                  files.end_of_text.end())
      files.end_of_text.push_back(*id);
  }

  files.tokenizer =
      tokenizer_json(gguf, pre, v, add_bos ? bos : std::nullopt, add_eos ? eos : std::nullopt);
  ordered_json& config = files.tokenizer_config;
  config = {{"add_bos_token", add_bos}, {"add_eos_token", add_eos}, {"add_prefix_space", false}};
  files.special_tokens_map = ordered_json::object();
  const std::pair<const char*, std::optional<int32_t>> named[] = {
      {"bos_token", bos}, {"eos_token", eos}, {"unk_token", unknown}, {"pad_token", pad}};
  for (const auto& [name, id] : named) {
    if (!id) continue;
    const std::string_view token = v.tokens[static_cast<size_t>(*id)];
    config[name] = token;
    files.special_tokens_map[name] = token;
  }
  config["clean_up_tokenization_spaces"] = false;
  const std::string context =
      fmt::format("{}.context_length", gguf.get_string("general.architecture"));
  if (gguf.has(context)) config["model_max_length"] = gguf.get_uint(context);
  config["tokenizer_class"] = "PreTrainedTokenizerFast";
  ordered_json& added = config["added_tokens_decoder"];
  added = ordered_json::object();
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (!v.added(id)) continue;
    added.get_ref<ordered_json::object_t&>().push_back(
        {std::to_string(id), added_token_json(v, id, false)});
  }
  if (ordered_json chat = chat_template_json(gguf); !chat.is_null())
    config["chat_template"] = std::move(chat);

  // What does not load here would fail whoever reads the folder; a merge of unknown tokens, say.
  try {
    Tokenizer::from_json(files.tokenizer.dump(), gguf.name());
    files.tokenizer_config.dump();
  } catch (const nlohmann::json::exception&) {
    throw bad(gguf, kTokens, "a token or the chat template is not valid UTF-8");
  }
  return files;
}

}  // namespace octet::text
