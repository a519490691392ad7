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
  std::string text;  // kept for echo only
  std::vector<int32_t> tokens;
  bool is_text = false;  // the tokens are all those of a text
  // Where they are in it, for the names that go with an echo.
  std::vector<text::PlacedToken> places;
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
  // The tokens of a text of any length. `go_on` as in make().
  std::vector<int32_t> encode(std::string_view text, bool add_special_tokens,
                              const std::function<void()>& go_on) const;

 private:
  size_t least_tokens(std::string_view text) const;
  Prompt prompt_of_text(const GenerationRequest& request, std::string_view text,
                        const std::function<void()>& go_on) const;
  // Cuts the tokens as asked; throws if they do not fit.
  void fit(const GenerationRequest& request, Prompt& prompt) const;
  std::string text_of(const Prompt& prompt, const GenerationRequest& request) const;

  const text::Tokenizer& tokenizer_;
  const text::ChatTemplate* template_;
  size_t max_model_len_;
};

}  // namespace octet::server
