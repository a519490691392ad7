// The two kinds of answers.
#pragma once

#include <string>
#include <vector>

#include "src/server/answer.h"

namespace octet::server {

class CompletionAnswer final : public Answer {
 public:
  CompletionAnswer(const GenerationRequest& request, std::string id, std::string model,
                   const text::Tokenizer& tokenizer)
      : Answer(request, std::move(id), std::move(model), tokenizer) {}
  ordered_json whole(std::vector<Choice>& choices) const override;

 private:
  std::vector<ordered_json> pieces(Choice& choice) const override;
  const char* event_object() const override { return "text_completion"; }
  ordered_json told_so_far(Choice& choice) const;
};

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(const GenerationRequest& request, std::string id, std::string model,
             const text::Tokenizer& tokenizer)
      : Answer(request, std::move(id), std::move(model), tokenizer) {}
  ordered_json whole(std::vector<Choice>& choices) const override;

 private:
  std::vector<ordered_json> pieces(Choice& choice) const override;
  const char* event_object() const override { return "chat.completion.chunk"; }
  ordered_json logprobs(const Choice& choice) const;
};

}  // namespace octet::server
