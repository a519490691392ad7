// Token ids to text while they are generated.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "src/text/tokenizer.h"

namespace octet::text {

// The text of a growing sequence of tokens, piece by piece. The pieces, flush()'s included, add up
// to Tokenizer::decode of all ids for byte-level tokenizers (Llama 3, Qwen). For decoders that look
// at their neighbours, the first token's leading space is stripped as in the whole and later ones
// are kept; what can differ is text that such a decoder takes back once more tokens arrive (a run
// of byte-fallback tokens that turns out not to be UTF-8, a stripper of trailing text).
//
// Only a few tokens are decoded at each step, however long the sequence is: those since the last
// two points where the text was whole. Not for several threads at once; the tokenizer must outlive
// it.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);

  // The text that is final now that `id` is known; often empty, when a character is not complete.
  // An id that has no token (a padding row of the model's embedding) adds no text.
  std::string push(int32_t id);
  // What is held back (an incomplete character shows as U+FFFD). Afterwards a new sequence starts.
  std::string flush();
  // Tokens that the next push() decodes beside its own.
  size_t window() const { return ids_.size(); }

 private:
  std::string decode(size_t from) const;
  void slide(size_t to);

  const Tokenizer* tokenizer_;
  bool skip_special_tokens_;
  // The last tokens. Those before read_ are context, the text of which is out; emitted_ bytes of
  // the text of ids_ are out.
  std::vector<int32_t> ids_;
  size_t read_ = 0;
  size_t emitted_ = 0;
};

}  // namespace octet::text
