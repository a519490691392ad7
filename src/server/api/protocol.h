// Requests of /v1/completions and /v1/chat/completions: JSON, checked, to what the engine needs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "src/base/json.h"
#include "src/engine/request.h"
#include "src/server/api/options.h"
#include "src/server/http/body.h"
#include "src/text/chat_template.h"

namespace octet::server {

using PromptInput = std::variant<std::string, std::vector<int32_t>>;

struct ChatInput {
  ordered_json messages;  // normalized; not empty
  text::RenderOptions render;
};

struct GenerationRequest {
  // Texts or token ids; or a conversation, which becomes one text.
  std::variant<std::vector<PromptInput>, ChatInput> input;
  bool add_special_tokens = true;
  std::optional<int64_t> truncate;  // keep so many prompt tokens; -1: as many as there is room for
  bool truncate_head = true;        // cut at the front

  SamplingParams sampling;            // but for max_tokens and bad_words
  std::optional<int64_t> max_tokens;  // nothing: all the room there is
  std::vector<std::string> bad_words;
  size_t n = 1;  // answers per prompt

  std::optional<std::string> request_id;
  bool stream = false, include_usage = false, continuous_usage = false;
  bool echo = false;
  bool prompt_logprobs = false;  // asked for by name, not for the sake of echo
  bool return_token_ids = false, tokens_as_ids = false;
  std::string role;       // chat: who answers
  std::string echo_text;  // chat: what goes before each answer

  bool chat() const { return std::holds_alternative<ChatInput>(input); }
  // Completions: max_tokens 0 with echo wants the prompt alone.
  bool prompt_only() const { return max_tokens == 0; }
};

// ApiError 400 naming the field for what is wrong or not supported, 404 for an unknown model.
GenerationRequest parse_completion(const ordered_json& body, const ServerOptions& options);
GenerationRequest parse_chat(const ordered_json& body, const ServerOptions& options);

// `messages` and what belongs to them, without tools (also for /tokenize).
ChatInput parse_chat_input(const Fields& fields);
// `model`, when given, must be one of ours.
void check_model(const Fields& fields, const ServerOptions& options);
// The members that both endpoints share.
void parse_shared(const Fields& fields, const ServerOptions& options, GenerationRequest& request);

}  // namespace octet::server
