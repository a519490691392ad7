// Log-probabilities in the shapes of the API.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/engine/request.h"
#include "src/text/tokenizer.h"

namespace octet::server {

// How tokens are named: by their text, or "token_id:17".
class TokenNames {
 public:
  TokenNames(const text::Tokenizer& tokenizer, bool as_ids)
      : tokenizer_(tokenizer), as_ids_(as_ids) {}

  std::string name(int32_t id) const;
  std::string text(int32_t id) const;  // empty for an id that has no token

 private:
  const text::Tokenizer& tokenizer_;
  bool as_ids_;
};

using Logprobs = std::vector<std::optional<TokenLogprob>>;

// The completions shape: {text_offset, token_logprobs, tokens, top_logprobs} of `tokens` [n] with
// `logprobs` [n]. `offset` is where the first token starts in the text, in characters; afterwards
// where the next one does.
ordered_json completion_logprobs(std::span<const int32_t> tokens,
                                 std::span<const std::optional<TokenLogprob>> logprobs,
                                 const TokenNames& names, size_t& offset);

// The chat shape: {content: [{token, logprob, bytes, top_logprobs}]}.
ordered_json chat_logprobs(std::span<const std::optional<TokenLogprob>> logprobs,
                           const TokenNames& names);

// One entry a prompt token: null for the first, then {"<id>": {logprob, rank, decoded_token}}.
ordered_json prompt_logprobs(std::span<const std::optional<TokenLogprob>> logprobs,
                             const TokenNames& names);

}  // namespace octet::server
