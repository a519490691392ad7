#include "src/server/api/answer.h"

#include <fmt/format.h>
#include <openssl/rand.h>

#include <array>
#include <ctime>
#include <iterator>
#include <utility>

#include "src/base/error.h"

namespace octet::server {
namespace {

ordered_json token_counts(size_t prompt, size_t generated) {
  return {{"prompt_tokens", prompt},
          {"total_tokens", prompt + generated},
          {"completion_tokens", generated}};
}

}  // namespace

void Choice::append(RequestOutput output, bool prompt_only) {
  finish = output.finish;
  if (!output.prompt_logprobs.empty()) prompt_logprobs = std::move(output.prompt_logprobs);
  if (prompt_only) {
    if (finish == FinishReason::kStop) finish = FinishReason::kLength;
    return;
  }
  stop_reason = std::move(output.stop_reason);
  text += output.text;
  generated += output.tokens.size();
  tokens.insert(tokens.end(), output.tokens.begin(), output.tokens.end());
  logprobs.insert(logprobs.end(), std::make_move_iterator(output.logprobs.begin()),
                  std::make_move_iterator(output.logprobs.end()));
}

void Choice::mark_sent() {
  begun = true;
  sent = generated;
  text.clear();
  tokens.clear();
  logprobs.clear();
  prompt_logprobs.clear();
}

Answer::Answer(const GenerationRequest& request, std::string id, std::string model,
               const text::Tokenizer& tokenizer)
    : request_(request),
      tokenizer_(tokenizer),
      id_(std::move(id)),
      model_(std::move(model)),
      created_(std::time(nullptr)) {}

ordered_json Answer::head(const char* object) const {
  return {{"id", id_}, {"object", object}, {"created", created_}, {"model", model_}};
}

ordered_json Answer::prompt_scores(const Choice& choice) const {
  if (!request_.prompt_logprobs) return nullptr;
  return prompt_logprobs(choice.prompt->tokens, choice.prompt_logprobs, tokenizer_);
}

ordered_json Answer::usage(const std::vector<Choice>& all, bool whole) const {
  size_t prompt = 0, generated = 0;
  for (const Choice& c : all) {
    if (c.index % request_.n == 0) prompt += c.prompt->tokens.size();
    generated += c.generated;
  }
  ordered_json u = token_counts(prompt, generated);
  if (whole) u["prompt_tokens_details"] = nullptr;
  return u;
}

std::vector<ordered_json> Answer::events(Choice& choice) {
  const bool first = !choice.begun;
  const size_t before = choice.sent, prompt = choice.prompt->tokens.size();
  std::vector<ordered_json> events;
  std::vector<ordered_json> parts = pieces(choice);
  for (size_t i = 0; i < parts.size(); ++i) {
    ordered_json event = head(event_object());
    event["choices"].push_back(std::move(parts[i]));
    // Tokens come with the last one; a chat's role comes before.
    const size_t generated = i + 1 == parts.size() ? choice.sent : before;
    if (request_.continuous_usage) event["usage"] = token_counts(prompt, generated);
    events.push_back(std::move(event));
  }
  if (request_.chat() && first && request_.return_token_ids && !events.empty())
    events.front()["prompt_token_ids"] = choice.prompt->tokens;
  return events;
}

ordered_json Answer::usage_event(const std::vector<Choice>& all) const {
  ordered_json event = head(event_object());
  event["choices"] = ordered_json::array();
  event["usage"] = usage(all, false);
  return event;
}

ordered_json finish_reason(const Choice& choice) {
  if (!choice.finish) return nullptr;
  switch (*choice.finish) {
    case FinishReason::kStop:
      return "stop";
    case FinishReason::kLength:
      return "length";
    default:
      return "abort";
  }
}

ordered_json stop_reason(const Choice& choice) {
  if (const auto* text = std::get_if<std::string>(&choice.stop_reason)) return *text;
  if (const auto* id = std::get_if<int32_t>(&choice.stop_reason)) return *id;
  return nullptr;
}

std::string random_id() {
  std::array<unsigned char, 16> bytes;
  OCTET_CHECK(RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) == 1);
  std::string hex;
  for (unsigned char b : bytes) hex += fmt::format("{:02x}", b);
  return hex;
}

}  // namespace octet::server
