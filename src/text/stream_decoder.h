// Token ids to text while they are generated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "src/text/tokenizer.h"

namespace octet::text {

// The text of a growing sequence of tokens, piece by piece. The pieces add up to what
// Tokenizer::decode makes of all ids beyond its text for the prompt, up to an incomplete character
// at the end. (A decoder that takes text back when more tokens arrive, which Llama 2's does after a
// run of byte tokens that turns out not to be UTF-8, cannot be followed exactly.)
//
// Tokens that end inside a character add no text; the one that completes it adds all of theirs.
//
// Only a few tokens are decoded at each step, however long the sequence is: those since the last
// two points where the text was whole. Not for several threads at once; the tokenizer must outlive
// it.
class StreamDecoder {
 public:
  // The text that follows `prompt`. What comes before decides how it begins: sentencepiece's
  // decoders drop the space before the first word of a text, and a prompt may end inside a
  // character (then the text begins with that character), unless it is all tokens of a text: a
  // U+FFFD at its end is one of that text.
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens,
                std::span<const int32_t> prompt = {}, bool prompt_is_text = false);

  // The text that is final now that `id` is known; often empty, when a character is not complete.
  // An id that has no token (a padding row of the model's embedding) adds no text.
  std::string push(int32_t id);
  // What push(id) would return, a run of broken bytes apart.
  std::string peek(int32_t id) const;
  // What is held back, without an incomplete character at its end. Afterwards a new text starts.
  std::string flush();
  // Tokens that the next push() decodes beside its own.
  size_t window() const { return ids_.size(); }

 private:
  bool visible(int32_t id) const;
  void prime(std::span<const int32_t> prompt, bool prompt_is_text);
  std::string decode(std::span<const int32_t> ids) const;
  std::string addition(std::string_view text, std::span<const int32_t> ids) const;
  std::string push_broken(const std::string& text);
  void slide();

  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  // The last tokens. The text of the first read_ is out: they are context, which decodes to out_.
  std::vector<int32_t> ids_;
  size_t read_ = 0;
  std::string out_;
};

}  // namespace octet::text
