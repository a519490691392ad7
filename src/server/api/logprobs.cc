#include "src/server/api/logprobs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace octet::server {
namespace {

// JSON has no infinity.
double finite(float logprob) {
  return std::isfinite(logprob) ? std::max(static_cast<double>(logprob), -9999.0) : -9999.0;
}

size_t characters(const std::string& utf8) {
  return static_cast<size_t>(std::count_if(utf8.begin(), utf8.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
  }));
}

ordered_json chat_entry(int32_t token, float logprob, const TokenNames& names) {
  const std::string name = names.name(token);
  ordered_json bytes = ordered_json::array();
  for (char c : name) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", name}, {"logprob", finite(logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

std::string TokenNames::text(int32_t id) const {
  return tokenizer_.has_token(id) ? tokenizer_.decode(std::span(&id, 1), false) : std::string();
}

std::string TokenNames::name(int32_t id) const {
  return as_ids_ ? fmt::format("token_id:{}", id) : text(id);
}

ordered_json completion_logprobs(std::span<const int32_t> tokens,
                                 std::span<const std::optional<TokenLogprob>> logprobs,
                                 const TokenNames& names, size_t& offset) {
  ordered_json offsets = ordered_json::array(), values = ordered_json::array();
  ordered_json spelled = ordered_json::array(), tops = ordered_json::array();
  for (size_t i = 0; i < tokens.size(); ++i) {
    offsets.push_back(offset);
    offset += characters(names.text(tokens[i]));
    spelled.push_back(names.name(tokens[i]));
    if (i >= logprobs.size() || !logprobs[i]) {
      values.push_back(nullptr);
      tops.push_back(nullptr);
      continue;
    }
    const TokenLogprob& l = *logprobs[i];
    values.push_back(finite(l.logprob));
    // The chosen token comes first, whether or not it is among the likeliest.
    ordered_json top = {{names.name(l.token), finite(l.logprob)}};
    for (const auto& [id, value] : l.top)
      if (id != l.token) top[names.name(id)] = finite(value);
    tops.push_back(std::move(top));
  }
  return {{"text_offset", std::move(offsets)},
          {"token_logprobs", std::move(values)},
          {"tokens", std::move(spelled)},
          {"top_logprobs", std::move(tops)}};
}

ordered_json chat_logprobs(std::span<const std::optional<TokenLogprob>> logprobs,
                           const TokenNames& names) {
  ordered_json content = ordered_json::array();
  for (const auto& l : logprobs) {
    if (!l) continue;
    ordered_json entry = chat_entry(l->token, l->logprob, names);
    ordered_json& top = entry["top_logprobs"] = ordered_json::array();
    for (const auto& [id, value] : l->top) top.push_back(chat_entry(id, value, names));
    content.push_back(std::move(entry));
  }
  return {{"content", std::move(content)}};
}

ordered_json prompt_logprobs(std::span<const std::optional<TokenLogprob>> logprobs,
                             const TokenNames& names) {
  ordered_json out = ordered_json::array();
  for (const auto& l : logprobs) {
    if (!l) {
      out.push_back(nullptr);
      continue;
    }
    const auto entry = [&](int32_t id, float value, int64_t rank) -> ordered_json {
      return {{"logprob", finite(value)}, {"rank", rank}, {"decoded_token", names.text(id)}};
    };
    ordered_json map = {{std::to_string(l->token), entry(l->token, l->logprob, l->rank)}};
    for (size_t i = 0; i < l->top.size(); ++i)
      if (const auto& [id, value] = l->top[i]; id != l->token)
        map[std::to_string(id)] = entry(id, value, static_cast<int64_t>(i) + 1);
    out.push_back(std::move(map));
  }
  return out;
}

}  // namespace octet::server
