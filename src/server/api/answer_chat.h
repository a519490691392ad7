// The answer of /v1/chat/completions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "src/server/api/answer.h"

namespace octet::server {

class ChatAnswer final : public Answer {
 public:
  ChatAnswer(const GenerationRequest& request, std::string id, std::string model,
             const text::Tokenizer& tokenizer)
      : Answer(request, std::move(id), std::move(model), tokenizer) {}
  ordered_json whole(std::vector<Choice>& choices) const override;

 private:
  std::vector<ordered_json> pieces(Choice& choice) const override;
  const char* event_object() const override { return "chat.completion.chunk"; }
  ordered_json logprobs(Choice& choice) const;
};

}  // namespace octet::server
