// The answers of /v1/completions and /v1/chat/completions: whole, or as the events of a stream.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/engine/request.h"
#include "src/server/api/logprobs.h"
#include "src/server/api/prompts.h"
#include "src/server/api/protocol.h"

namespace octet::server {

// One of the n answers to one prompt. Outputs pile up in it until they are sent: at once for a
// stream, at the end otherwise.
struct Choice {
  size_t index = 0;
  const Prompt* prompt = nullptr;

  std::string text;
  std::vector<int32_t> tokens;
  Logprobs logprobs;                // of `tokens`, when asked
  Logprobs prompt_logprobs;         // of the prompt, when asked
  std::optional<TokenNames> names;  // of the next token, with log-probabilities
  std::optional<FinishReason> finish;
  std::variant<std::monostate, std::string, int32_t> stop_reason;

  bool begun = false;    // the first output has arrived
  size_t generated = 0;  // tokens in all
  size_t sent = 0;       // of them in events
  size_t offset = 0;     // characters sent, for text_offset

  // With `prompt_only` what was generated does not count: only the prompt is wanted.
  void append(RequestOutput output, bool prompt_only);
  // Forgets what was sent.
  void mark_sent();
};

class Answer {
 public:
  virtual ~Answer() = default;

  // The events with what is unsent in `choice` (which forgets it); often one, none when there is
  // nothing to send yet. Running usage is the choice's own.
  std::vector<ordered_json> events(Choice& choice);
  // The last event of a stream when usage was asked for.
  ordered_json usage_event(const std::vector<Choice>& all) const;
  // The answer to a request without streaming.
  virtual ordered_json whole(std::vector<Choice>& choices) const = 0;

 protected:
  Answer(const GenerationRequest& request, std::string id, std::string model,
         const text::Tokenizer& tokenizer);

  // Of the prompt by name; null when not asked for.
  ordered_json prompt_scores(const Choice& choice) const;

  // The `choices` entry of each event.
  virtual std::vector<ordered_json> pieces(Choice& choice) const = 0;
  virtual const char* event_object() const = 0;
  ordered_json head(const char* object) const;  // id, object, created, model
  // Of all choices together; each prompt counts once.
  ordered_json usage(const std::vector<Choice>& all, bool whole) const;

  const GenerationRequest& request_;
  const text::Tokenizer& tokenizer_;

 private:
  std::string id_, model_;
  int64_t created_;  // Unix seconds
};

// "stop", "length", "abort"; null while it goes on.
ordered_json finish_reason(const Choice& choice);
ordered_json stop_reason(const Choice& choice);
// 32 random hex digits, for ids.
std::string random_id();

}  // namespace octet::server
