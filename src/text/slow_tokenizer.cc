#include "src/text/slow_tokenizer.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <string>
#include <utility>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/json_member.h"
#include "src/text/bpe_json.h"
#include "src/text/object_file.h"
#include "src/text/tokenizer_class.h"

namespace octet::text {
namespace {

constexpr int64_t kMaxId = int64_t{1} << 24;
constexpr const char* kEndOfText = "<|endoftext|>";  // both classes' token where none is named

// A special token is spelled, or is an object with its `content`.
std::string spelling(const json& token) {
  if (token.is_string()) return token.get<std::string>();
  const json* content = token.is_object() ? find_member(token, "content") : nullptr;
  return content != nullptr && content->is_string() ? content->get<std::string>() : std::string();
}

struct SlowFiles {
  explicit SlowFiles(const fs::path& path)
      : folder(path),
        config(read_object_file<json>(path / "tokenizer_config.json")),
        specials(read_object_file<json>(path / "special_tokens_map.json")) {}

  const json* member(const char* key) const {
    const json* m = find_member(config, key);
    return m != nullptr ? m : find_member(specials, key);
  }
  bool flag(const char* key) const {
    const json* m = find_member(config, key);
    return m != nullptr && m->is_boolean() && m->get<bool>();
  }
  std::string token(const char* key) const {
    const json* m = member(key);
    const std::string named = m == nullptr ? "" : spelling(*m);
    return named.empty() ? kEndOfText : named;
  }

  fs::path folder;
  json config, specials;
};

int64_t id_of(const json& id, const std::string& where, const std::string& token) {
  if (!id.is_number_integer() || id < 0 || id > kMaxId)
    throw Error("is no token id").file(where).field(token).found(id.dump().substr(0, 40));
  return id.get<int64_t>();
}

// The key of an added token, or null where it is no number.
json number_of(const std::string& digits) {
  int64_t id = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  return error == std::errc() && end == digits.data() + digits.size() ? json(id) : json(digits);
}

// The tokens beside those of vocab.json, by id: entries of a tokenizer.json's added_tokens.
class AddedTokens {
 public:
  AddedTokens(const SlowFiles& files, std::map<std::string, int64_t>& vocabulary)
      : vocabulary_(vocabulary) {
    const std::string where = (files.folder / "tokenizer_config.json").string();
    if (const json* decoder = find_member(files.config, "added_tokens_decoder");
        decoder != nullptr && decoder->is_object()) {
      for (const auto& [id, token] : decoder->items())
        add(spelling(token), id_of(number_of(id), where, id), token);
    } else {
      const json old = read_object_file<json>(files.folder / "added_tokens.json");
      for (const auto& [token, id] : old.items()) add(token, id_of(id, where, token), nullptr);
    }
    for (const auto& [token, id] : vocabulary_) next_ = std::max(next_, id + 1);
    for (const char* key : {"bos_token", "eos_token", "unk_token", "pad_token"})
      if (const json* m = files.member(key)) special(spelling(*m));
    if (const json* more = files.member("additional_special_tokens");
        more != nullptr && more->is_array())
      for (const json& token : *more) special(spelling(token));
    special(kEndOfText);
  }

  ordered_json take() {
    ordered_json list = ordered_json::array();
    for (auto& [id, token] : by_id_) list.push_back(std::move(token));
    return list;
  }

 private:
  void add(const std::string& token, int64_t id, const json& properties) {
    if (token.empty()) return;
    ordered_json entry = {{"id", id}, {"content", token}};
    for (const char* key : {"single_word", "lstrip", "rstrip", "special"})
      entry[key] = properties.is_object() && properties.value(key, json()) == true;
    // By default a token that is not special is looked for in normalized text.
    const json* normalized =
        properties.is_object() ? find_member(properties, "normalized") : nullptr;
    entry["normalized"] = normalized != nullptr ? *normalized == true : entry["special"] == false;
    by_id_[id] = std::move(entry);
    vocabulary_[token] = id;
  }

  // A token that is special by its role, wherever it comes from; a new one goes behind the others.
  void special(const std::string& token) {
    if (token.empty()) return;
    const auto [it, fresh] = vocabulary_.emplace(token, next_);
    if (fresh) ++next_;
    const int64_t id = it->second;
    if (const auto known = by_id_.find(id); known == by_id_.end() || !known->second["special"])
      add(token, id, {{"special", true}});
  }

  std::map<std::string, int64_t>& vocabulary_;
  std::map<int64_t, ordered_json> by_id_;
  int64_t next_ = 0;
};

}  // namespace

bool has_slow_tokenizer(const fs::path& folder) {
  std::error_code ec;
  return fs::exists(folder / "vocab.json", ec) && fs::exists(folder / "merges.txt", ec);
}

ordered_json slow_tokenizer_json(const fs::path& folder) {
  const SlowFiles files(folder);
  const std::string kind = tokenizer_class(folder, files.config);
  BpeParts parts;
  if (kind == "Qwen2Tokenizer") {
    parts.rules = {.split = kQwen2Split, .nfc = true};
  } else if (kind != "GPT2Tokenizer") {
    throw Error(
        "has no tokenizer.json, and one of this class is not made of vocab.json and merges.txt")
        .file(folder.string())
        .field("tokenizer_class of tokenizer_config.json")
        .expected("Qwen2Tokenizer or GPT2Tokenizer")
        .found(kind.empty() ? "nothing" : kind);
  }
  parts.rules.prefix_space = files.flag("add_prefix_space");

  std::map<std::string, int64_t> vocabulary;
  const std::string where = (folder / "vocab.json").string();
  const json stored = read_object_file<json>(folder / "vocab.json");
  for (const auto& [token, id] : stored.items()) vocabulary[token] = id_of(id, where, token);
  parts.added = AddedTokens(files, vocabulary).take();
  if (kind == "GPT2Tokenizer" && files.flag("add_bos_token"))
    parts.before.emplace_back(files.token("bos_token"), vocabulary[files.token("bos_token")]);
  parts.vocabulary.assign(vocabulary.begin(), vocabulary.end());
  std::ranges::sort(parts.vocabulary, {}, [](const auto& entry) { return entry.second; });

  const std::string merges = read_text(folder / "merges.txt");
  for_each_line(merges, [&](size_t number, std::string_view line) {
    if (number == 1 && line.starts_with("#version")) return;
    while (line.ends_with('\r') || line.ends_with(' ')) line.remove_suffix(1);
    parts.merges.push_back(line);
  });
  return bpe_tokenizer_json(std::move(parts), (folder / "merges.txt").string());
}

}  // namespace octet::text
