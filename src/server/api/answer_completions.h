// The answer of /v1/completions.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "src/server/api/answer.h"

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
  ordered_json next_piece(Choice& choice) const;
};

}  // namespace octet::server
