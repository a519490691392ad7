// Log-probabilities in the shapes of the API.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/json.h"
#include "src/engine/request.h"
#include "src/text/stream_decoder.h"
#include "src/text/tokenizer.h"

namespace octet::server {

// Names the tokens of one text in their order: each by the text that it adds there, so that names
// join to the text, or as "token_id:17". A token that ends inside a character is called "", the one
// that completes it by all of the character's text.
class TokenNames {
 public:
  // Of the tokens that follow `before`, which is_text if a text was turned into them. Special
  // tokens that the text leaves out are spelled all the same.
  TokenNames(const text::Tokenizer& tokenizer, bool as_ids, bool skip_special_tokens,
             std::span<const int32_t> before = {}, bool is_text = false);
  // Of the tokens that `text` was turned into, which are at `places` in it: special ones belong to
  // it where it spells them, and not where they were added.
  static TokenNames of_text(const text::Tokenizer& tokenizer, bool as_ids, std::string_view text,
                            std::span<const text::PlacedToken> places);

  struct Name {
    std::string shown;     // the spelling, or "token_id:17"
    std::string spelling;  // of the text that the token adds, or of a special one
    size_t characters;     // that it adds to the text
  };
  // `last`: no token follows, so this one takes over what was held back of an unfinished character.
  Name next(int32_t id, bool last = false);
  // The name of an alternative to the token that next() names.
  Name alternative(int32_t id) const;

 private:
  Name name(int32_t id, std::string added) const;
  std::string next_of_source();

  const text::Tokenizer* tokenizer_;
  bool as_ids_;
  text::StreamDecoder decoder_;
  // The text that the tokens are of, if there is one; and what of it is left.
  bool has_source_ = false;
  std::string_view source_;
  size_t named_ = 0;  // bytes
  std::span<const text::PlacedToken> places_;
};

using Logprobs = std::vector<std::optional<TokenLogprob>>;

// The completions shape: {text_offset, token_logprobs, tokens, top_logprobs}. Appends `tokens` [n]
// with `logprobs` [n] to it, or makes it of null. `offset` is where the first token starts in the
// text, in characters; afterwards where the next one does. `whole`: no token follows.
void append_completion_logprobs(std::span<const int32_t> tokens,
                                std::span<const std::optional<TokenLogprob>> logprobs, bool whole,
                                TokenNames& names, size_t& offset, ordered_json& out);

// The chat shape: {content: [{token, logprob, bytes, top_logprobs}]}.
ordered_json chat_logprobs(std::span<const std::optional<TokenLogprob>> logprobs, bool whole,
                           TokenNames& names);

// One entry a prompt token: null for the first, then {"<id>": {logprob, rank, decoded_token}}.
ordered_json prompt_logprobs(std::span<const int32_t> prompt,
                             std::span<const std::optional<TokenLogprob>> logprobs,
                             const text::Tokenizer& tokenizer);

}  // namespace octet::server
