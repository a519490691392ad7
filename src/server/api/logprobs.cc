#include "src/server/api/logprobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>
#include <utility>

#include "src/base/json_member.h"
#include "src/base/utf8.h"

namespace octet::server {
namespace {

// JSON has no infinity.
double finite(float logprob) {
  return std::isfinite(logprob) ? std::max(static_cast<double>(logprob), -9999.0) : -9999.0;
}

ordered_json chat_entry(const TokenNames::Name& name, float logprob) {
  ordered_json bytes = ordered_json::array();
  for (char c : name.spelling) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", name.shown}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

TokenNames::TokenNames(const text::Tokenizer& tokenizer, bool as_ids, bool skip_special_tokens,
                       std::span<const int32_t> before, bool is_text)
    : tokenizer_(&tokenizer),
      as_ids_(as_ids),
      decoder_(tokenizer, skip_special_tokens, before, is_text) {}

TokenNames TokenNames::of_text(const text::Tokenizer& tokenizer, bool as_ids, std::string_view text,
                               std::span<const text::PlacedToken> places) {
  TokenNames names(tokenizer, as_ids, /*skip_special_tokens=*/false);
  names.has_source_ = true;
  names.source_ = text;
  names.places_ = places;
  return names;
}

TokenNames::Name TokenNames::name(int32_t id, std::string added) const {
  const size_t count = utf8_length(added);
  std::string spelling =
      added.empty() && tokenizer_->is_special(id) ? tokenizer_->id_to_token(id) : std::move(added);
  std::string shown = as_ids_ ? fmt::format("token_id:{}", id) : spelling;
  return {std::move(shown), std::move(spelling), count};
}

// What of the text comes before the token behind the next one: nothing inside a character; what a
// normalizer left out goes with the token before it.
std::string TokenNames::next_of_source() {
  places_ = places_.subspan(1);
  const size_t end = places_.empty() ? source_.size() : places_.front().begin;
  if (end <= named_) return {};
  const size_t begin = std::exchange(named_, end);
  return std::string(source_.substr(begin, end - begin));
}

TokenNames::Name TokenNames::next(int32_t id, bool last) {
  std::string added = decoder_.push(id);
  if (has_source_)
    added = next_of_source();
  else if (last)
    added += decoder_.flush();
  return name(id, std::move(added));
}

TokenNames::Name TokenNames::alternative(int32_t id) const { return name(id, decoder_.peek(id)); }

void append_completion_logprobs(std::span<const int32_t> tokens,
                                std::span<const std::optional<TokenLogprob>> logprobs, bool whole,
                                TokenNames& names, size_t& offset, ordered_json& out) {
  if (out.is_null())
    for (const char* list : {"text_offset", "token_logprobs", "tokens", "top_logprobs"})
      out[list] = ordered_json::array();
  ordered_json &offsets = out["text_offset"], &values = out["token_logprobs"],
               &spelled = out["tokens"], &tops = out["top_logprobs"];
  for (size_t i = 0; i < tokens.size(); ++i) {
    const TokenLogprob* l = i < logprobs.size() && logprobs[i] ? &*logprobs[i] : nullptr;
    // Before next(): they take the same place in the text.
    std::vector<std::pair<std::string, float>> others;
    if (l != nullptr)
      for (const auto& [id, value] : l->top)
        if (id != l->token) others.emplace_back(names.alternative(id).shown, value);
    const TokenNames::Name name = names.next(tokens[i], whole && i + 1 == tokens.size());
    offsets.push_back(offset);
    offset += name.characters;
    spelled.push_back(name.shown);
    values.push_back(l == nullptr ? ordered_json() : ordered_json(finite(l->logprob)));
    tops.push_back(nullptr);
    if (l == nullptr) continue;
    // The chosen token comes first, whether or not it is among the likeliest. Of several with one
    // name the chosen one counts, else the likeliest.
    ordered_json& top = tops.back() = {{name.shown, finite(l->logprob)}};
    std::unordered_set<std::string> taken = {name.shown};
    for (const auto& [other, value] : others)
      if (taken.insert(other).second) append_member(top, other, finite(value));
  }
}

ordered_json chat_logprobs(std::span<const std::optional<TokenLogprob>> logprobs, bool whole,
                           TokenNames& names) {
  ordered_json content = ordered_json::array();
  for (size_t i = 0; i < logprobs.size(); ++i) {
    const auto& l = logprobs[i];
    if (!l) continue;
    ordered_json top = ordered_json::array();
    for (const auto& [id, value] : l->top) top.push_back(chat_entry(names.alternative(id), value));
    const bool last = whole && i + 1 == logprobs.size();
    ordered_json entry = chat_entry(names.next(l->token, last), l->logprob);
    entry["top_logprobs"] = std::move(top);
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

ordered_json prompt_logprobs(std::span<const int32_t> prompt,
                             std::span<const std::optional<TokenLogprob>> logprobs,
                             const text::Tokenizer& tokenizer) {
  TokenNames names(tokenizer, /*as_ids=*/false, /*skip_special_tokens=*/true);
  ordered_json out = ordered_json::array();
  for (size_t p = 0; p < logprobs.size(); ++p) {
    const auto entry = [&](const TokenNames::Name& name, float value,
                           int64_t rank) -> ordered_json {
      return {{"logprob", finite(value)}, {"rank", rank}, {"decoded_token", name.shown}};
    };
    ordered_json others = ordered_json::object();
    const auto& l = logprobs[p];
    if (l)
      for (size_t i = 0; i < l->top.size(); ++i)
        if (const auto& [id, value] = l->top[i]; id != l->token)
          append_member(others, std::to_string(id),
                        entry(names.alternative(id), value, static_cast<int64_t>(i) + 1));
    const TokenNames::Name name = names.next(prompt[p]);
    out.push_back(nullptr);
    if (!l) continue;
    out.back() = {{std::to_string(l->token), entry(name, l->logprob, l->rank)}};
    for (const auto& [id, other] : others.items()) append_member(out.back(), id, other);
  }
  return out;
}

}  // namespace octet::server
