#include "src/server/api/answer_completions.h"

namespace octet::server {

// {index, text, logprobs, finish_reason, stop_reason}. With echo the prompt leads the first one.
ordered_json CompletionAnswer::next_piece(Choice& c) const {
  std::string text = std::move(c.text);
  ordered_json scores;
  if (request_.echo && !c.begun) {
    text.insert(0, c.prompt->text);
    if (c.names) {
      TokenNames names = c.prompt->is_text ? TokenNames::of_text(tokenizer_, request_.tokens_as_ids,
                                                                 c.prompt->text, c.prompt->places)
                                           : TokenNames(tokenizer_, request_.tokens_as_ids,
                                                        request_.sampling.skip_special_tokens);
      append_completion_logprobs(c.prompt->tokens, c.prompt_logprobs, request_.prompt_only(), names,
                                 c.offset, scores);
    }
  }
  if (c.names)
    append_completion_logprobs(c.tokens, c.logprobs, c.finish.has_value(), *c.names, c.offset,
                               scores);
  ordered_json piece = {{"index", c.index}, {"text", std::move(text)}};
  piece["logprobs"] = std::move(scores);
  piece["finish_reason"] = finish_reason(c);
  piece["stop_reason"] = stop_reason(c);
  return piece;
}

std::vector<ordered_json> CompletionAnswer::pieces(Choice& c) const {
  ordered_json piece = next_piece(c);
  if (request_.return_token_ids) {
    if (!c.begun) piece["prompt_token_ids"] = c.prompt->tokens;
    piece["token_ids"] = c.tokens;
  }
  c.mark_sent();
  return {std::move(piece)};
}

ordered_json CompletionAnswer::whole(std::vector<Choice>& choices) const {
  ordered_json answer = head("text_completion");
  ordered_json& list = answer["choices"] = ordered_json::array();
  for (Choice& c : choices) {
    ordered_json piece = next_piece(c);
    const bool ids = request_.return_token_ids;
    piece["token_ids"] = ids ? ordered_json(c.tokens) : ordered_json();
    piece["prompt_logprobs"] = prompt_scores(c);
    piece["prompt_token_ids"] = ids ? ordered_json(c.prompt->tokens) : ordered_json();
    list.push_back(std::move(piece));
  }
  answer["service_tier"] = nullptr;
  answer["system_fingerprint"] = nullptr;
  answer["usage"] = usage(choices, true);
  answer["kv_transfer_params"] = nullptr;
  return answer;
}

}  // namespace octet::server
