#include "src/engine/sequence.h"

#include <algorithm>
#include <string>
#include <utility>

namespace octet {

Sequence::Sequence(RequestId id_, Request request_, const text::Tokenizer* tokenizer,
                   const std::vector<int32_t>& eos_ids)
    : id(id_),
      request(std::move(request_)),
      tokens(request.prompt),
      scores_prompt(request.sampling.prompt_logprobs >= 0),
      sampler(request.sampling, request.prompt, eos_ids),
      stops(request.sampling.stop, request.sampling.include_stop) {
  if (tokenizer != nullptr)
    decoder.emplace(*tokenizer, request.sampling.skip_special_tokens, request.prompt,
                    request.prompt_is_text);
}

// The prompt's log-probabilities go out with the first one.
RequestOutput Sequence::next_output(bool first) {
  RequestOutput out;
  if (first && request.sampling.prompt_logprobs >= 0) {
    if (prompt_logprobs.empty()) prompt_logprobs.emplace_back();  // a one-token prompt
    out.prompt_logprobs = std::exchange(prompt_logprobs, {});
  }
  return out;
}

// What was held back may hold a stop string.
void Sequence::flush_text(RequestOutput& out) {
  if (!decoder || stops.matched()) return;
  out.text += stops.push(decoder->flush());
  out.text += stops.flush();
  if (!stops.matched()) return;
  out.finish = FinishReason::kStop;
  out.stop_reason = *stops.matched();
}

RequestOutput Sequence::accept(int32_t token, TokenLogprob logprob,
                               const std::vector<int32_t>& eos_ids) {
  const SamplingParams& p = request.sampling;
  const size_t count = sampler.output().size();
  tokens.push_back(token);

  RequestOutput out = next_output(/*first=*/count == 1);
  out.tokens = {token};
  if (p.logprobs >= 0) out.logprobs.push_back(std::move(logprob));

  const auto has = [&](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  const bool may_stop = count >= p.min_tokens;
  const bool stop_token = may_stop && has(p.stop_token_ids);
  const bool eos = may_stop && !p.ignore_eos && has(eos_ids);
  // The token that ends the text is not part of it, unless the request wants to see what did.
  const bool silent = (stop_token || eos) && !p.include_stop;
  if (decoder && !silent) out.text = stops.push(decoder->push(token), may_stop);
  if (stops.matched()) {
    out.finish = FinishReason::kStop;
    out.stop_reason = *stops.matched();
  } else if (stop_token || eos) {
    out.finish = FinishReason::kStop;
    if (!eos || token != eos_ids.front()) out.stop_reason = token;
  } else if (count >= p.max_tokens) {
    out.finish = FinishReason::kLength;
  }
  if (out.finish) flush_text(out);
  return out;
}

RequestOutput Sequence::finish_early() {
  RequestOutput out = next_output(/*first=*/sampler.output().empty());
  out.finish = FinishReason::kStop;
  flush_text(out);
  return out;
}

}  // namespace octet
