// From what a request says to the tokens that the engine continues.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "src/server/api/protocol.h"
#include "src/text/chat_template.h"
#include "src/text/tokenizer.h"

namespace octet::server {

struct Prompt {
  std::string text;       // kept for echo only
  bool verbatim = false;  // the text is the request's own, not that of the tokens
  std::vector<int32_t> tokens;
  size_t max_tokens = 0;  // of each answer
};

// Turns conversations and texts into tokens.
class PromptMaker {
 public:
  // `chat_template` may be null. Everything must outlive the maker.
  PromptMaker(const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
              size_t max_model_len)
      : tokenizer_(tokenizer), template_(chat_template), max_model_len_(max_model_len) {}

  // Throws ApiError 400: no template, the template's own refusal, a prompt that leaves no room for
  // its answer within the context. Calls `go_on` before each step that may take long; what it
  // throws ends the work.
  std::vector<Prompt> make(const GenerationRequest& request,
                           const std::function<void()>& go_on) const;
  // The token sequences of words that must not appear: at the start of a text, behind a space, and
  // behind anything else.
  std::vector<std::vector<int32_t>> bad_words(const std::vector<std::string>& words) const;

  std::string render(const ChatInput& chat) const;
  // The tokens of a text of any length.
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens) const;

 private:
  size_t least_tokens(std::string_view text) const;
  std::vector<int32_t> encode_prompt(std::string_view text, bool add_special_tokens) const;
  Prompt make_prompt(const GenerationRequest& request, std::vector<int32_t> tokens) const;
  std::string text_of(const Prompt& prompt, const GenerationRequest& request) const;

  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* template_;
  size_t max_model_len_;
};

}  // namespace octet::server
