#include "src/server/api/answer_chat.h"

namespace octet::server {

ordered_json ChatAnswer::logprobs(Choice& c) const {
  return c.names ? chat_logprobs(c.logprobs, c.finish.has_value(), *c.names) : ordered_json();
}

// The role comes with the first output, not before: its arrival marks the end of the prefill.
std::vector<ordered_json> ChatAnswer::pieces(Choice& c) const {
  std::vector<ordered_json> pieces;
  const auto add = [&](ordered_json delta, ordered_json scores, ordered_json reason) {
    pieces.push_back({{"index", c.index},
                      {"delta", std::move(delta)},
                      {"logprobs", std::move(scores)},
                      {"finish_reason", std::move(reason)}});
  };
  if (!c.begun) {
    add({{"role", request_.role}, {"content", ""}}, nullptr, nullptr);
    if (!request_.echo_text.empty()) add({{"content", request_.echo_text}}, nullptr, nullptr);
    c.begun = true;
  }
  // While text is held back nothing is sent; its tokens and scores go with the next text.
  if (c.text.empty() && !c.finish) return pieces;
  add({{"content", c.text}}, logprobs(c), finish_reason(c));
  if (c.finish) pieces.back()["stop_reason"] = stop_reason(c);
  if (request_.return_token_ids) pieces.back()["token_ids"] = c.tokens;
  c.mark_sent();
  return pieces;
}

ordered_json ChatAnswer::whole(std::vector<Choice>& choices) const {
  ordered_json answer = head("chat.completion");
  ordered_json& list = answer["choices"] = ordered_json::array();
  const bool ids = request_.return_token_ids;
  for (Choice& c : choices) {
    ordered_json message = {{"role", request_.role},
                            {"content", request_.echo_text + c.text},
                            {"refusal", nullptr},
                            {"annotations", nullptr},
                            {"audio", nullptr},
                            {"function_call", nullptr},
                            {"tool_calls", ordered_json::array()},
                            {"reasoning", nullptr}};
    list.push_back({{"index", c.index},
                    {"message", std::move(message)},
                    {"logprobs", logprobs(c)},
                    {"finish_reason", finish_reason(c)},
                    {"stop_reason", stop_reason(c)},
                    {"token_ids", ids ? ordered_json(c.tokens) : ordered_json()}});
  }
  answer["service_tier"] = nullptr;
  answer["system_fingerprint"] = nullptr;
  answer["usage"] = usage(choices, true);
  answer["prompt_logprobs"] = prompt_scores(choices.front());
  answer["prompt_token_ids"] = ids ? ordered_json(choices.front().prompt->tokens) : ordered_json();
  answer["kv_transfer_params"] = nullptr;
  return answer;
}

}  // namespace octet::server
