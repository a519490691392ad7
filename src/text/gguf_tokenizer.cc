#include "src/text/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "src/base/error.h"
#include "src/text/bpe_json.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

constexpr const char* kTokens = "tokenizer.ggml.tokens";
constexpr const char* kTypes = "tokenizer.ggml.token_type";
constexpr const char* kMerges = "tokenizer.ggml.merges";
constexpr const char* kPre = "tokenizer.ggml.pre";
constexpr const char* kBos = "tokenizer.ggml.bos_token_id";
constexpr const char* kEos = "tokenizer.ggml.eos_token_id";
constexpr const char* kPad = "tokenizer.ggml.padding_token_id";
constexpr const char* kTakeAnother =
    "--tokenizer DIR takes the tokenizer of the model that the file was made of";

// tokenizer.ggml.token_type.
enum TokenType : int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5 };

struct PreTokenizer {
  const char* name;  // tokenizer.ggml.pre
  BpeRules rules;
  bool bos_by_default = false;  // when the file does not say
};

constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*)"
    R"(|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr BpeRules kGpt2, kSmolLm = {.digits = true},
                          kLlama3 = {.split = kLlama3Split, .ignore_merges = true},
                          kQwen2 = {.split = kQwen2Split, .nfc = true};

constexpr PreTokenizer kPreTokenizers[] = {
    {"gpt-2", kGpt2},
    {"gpt2", kGpt2},
    {"smollm", kSmolLm},
    {"starcoder", kSmolLm},
    {"llama-bpe", kLlama3, true},
    {"llama3", kLlama3, true},
    {"llama-v3", kLlama3, true},
    {"qwen2", kQwen2},
    {"deepseek-r1-qwen", kQwen2},
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
        .found(std::string(model))
        .remedy(kTakeAnother);
  }
  const std::string_view name = gguf.get_string(kPre);
  std::string known;
  for (const PreTokenizer& p : kPreTokenizers) {
    if (name == p.name) return p;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", p.name);
  }
  throw bad(gguf, kPre, "unsupported pre-tokenizer")
      .expected(known)
      .found(std::string(name))
      .remedy(kTakeAnother);
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
  const auto named = [&](int64_t id) {
    return std::pair(std::string(v.tokens[static_cast<size_t>(id)]), id);
  };
  BpeParts parts;
  parts.rules = pre.rules;
  parts.merges = gguf.get_strings(kMerges);
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (!v.used(id)) continue;  // padding rows of the embedding
    parts.vocabulary.push_back(named(static_cast<int64_t>(id)));
    if (v.added(id)) parts.added.push_back(added_token_json(v, id, true));
  }
  if (bos) parts.before.push_back(named(*bos));
  if (eos) parts.after.push_back(named(*eos));
  return bpe_tokenizer_json(std::move(parts), gguf.name() + ", " + kMerges);
}

ordered_json chat_template_json(const GgufFile& gguf) {
  constexpr const char* kTemplate = "tokenizer.chat_template";
  constexpr const char* kToolUse = "tokenizer.chat_template.tool_use";
  if (!gguf.has(kTemplate)) return nullptr;
  ordered_json standard = gguf.get_string(kTemplate);
  if (!gguf.has(kToolUse)) return standard;
  return {{{"name", "default"}, {"template", standard}},
          {{"name", "tool_use"}, {"template", gguf.get_string(kToolUse)}}};
}

}  // namespace

GgufTokenIds gguf_token_ids(const GgufFile& gguf) {
  const Vocabulary v = vocabulary(gguf);
  GgufTokenIds ids;
  ids.bos = token_id(gguf, kBos, v).value_or(-1);
  ids.pad = token_id(gguf, kPad, v).value_or(-1);
  for (const char* key : {kEos, "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    const auto id = token_id(gguf, key, v);
    if (id && std::ranges::find(ids.end_of_text, *id) == ids.end_of_text.end())
      ids.end_of_text.push_back(*id);
  }
  return ids;
}

void expect_tokens_of(const GgufFile& gguf, const Tokenizer& tokenizer, const std::string& where) {
  const Vocabulary v = vocabulary(gguf);
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (v.types[id] != kNormal) continue;  // the names of others are not always kept
    const int32_t token = static_cast<int32_t>(id);
    if (tokenizer.has_token(token) && tokenizer.id_to_token(token) == v.tokens[id]) continue;
    throw Error("the tokenizer is of another model than the GGUF file")
        .file(where)
        .field(fmt::format("token {}", id))
        .expected(fmt::format("\"{}\"", v.tokens[id]))
        .found(tokenizer.has_token(token) ? fmt::format("\"{}\"", tokenizer.id_to_token(token))
                                          : "nothing");
  }
}

GgufTokenizerFiles gguf_tokenizer(const GgufFile& gguf) {
  const PreTokenizer& pre = pre_tokenizer(gguf);
  const Vocabulary v = vocabulary(gguf);
  const auto bos = token_id(gguf, kBos, v);
  const auto eos = token_id(gguf, kEos, v);
  const auto pad = token_id(gguf, kPad, v);
  const auto unknown = token_id(gguf, "tokenizer.ggml.unknown_token_id", v);
  const bool add_bos = bos && flag_or(gguf, "tokenizer.ggml.add_bos_token", pre.bos_by_default);
  const bool add_eos = eos && flag_or(gguf, "tokenizer.ggml.add_eos_token", false);

  GgufTokenizerFiles files;
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
