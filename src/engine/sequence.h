// A request on its way through the engine: waiting (no pages), running, finished.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/engine/request.h"
#include "src/engine/sampler.h"
#include "src/engine/stop_matcher.h"
#include "src/text/stream_decoder.h"
#include "src/text/tokenizer.h"

namespace octet {

struct Sequence {
  // `tokenizer` may be null: then outputs have no text.
  Sequence(RequestId id, Request request, const text::Tokenizer* tokenizer,
           const std::vector<int32_t>& eos_ids);

  size_t uncomputed() const { return tokens.size() - computed; }
  // Takes the token that `sampler` has drawn last: what it adds to the text, and whether it is the
  // last one. `eos_ids` as in EngineOptions.
  RequestOutput accept(int32_t token, TokenLogprob logprob, const std::vector<int32_t>& eos_ids);
  // Ends the text here, because the request's masks leave no token to go on with.
  RequestOutput finish_early();

  RequestId id;
  Request request;
  std::vector<int32_t> tokens;  // prompt and output

  // The scheduler's.
  size_t computed = 0;          // tokens whose keys and values are in the cache
  std::vector<int32_t> blocks;  // pages of the cache
  size_t counted = 0;           // prompt tokens in the statistics: those computed again count once
  bool scores_prompt;           // log-probabilities of the prompt are wanted and not all scheduled
  bool finished = false;

  Sampler sampler;
  std::optional<text::StreamDecoder> decoder;
  StopMatcher stops;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;  // until the first output
  RequestTimes times;

 private:
  RequestOutput next_output(bool first);
  void flush_text(RequestOutput& output);
};

}  // namespace octet
