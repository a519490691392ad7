// What a caller asks of the engine and what it gets back.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "src/base/shared.h"

namespace octet {

// A smaller penalty divides logits until they are infinite, a larger one makes no difference.
inline constexpr double kMinRepetitionPenalty = 0.01, kMaxRepetitionPenalty = 1e6;

// How to choose tokens and when to stop; the engine checks ranges, and ids against the vocabulary.
// Copies for the answers to one prompt share the lists.
struct SamplingParams {
  double temperature = 1;         // below 1e-5: greedy, and top_k/top_p/min_p do not count
  double top_p = 1;               // (0, 1]
  double min_p = 0;               // [0, 1]
  int64_t top_k = 0;              // 0 = off
  double repetition_penalty = 1;  // prompt and output tokens; within the bounds above
  double frequency_penalty = 0;   // output tokens
  double presence_penalty = 0;    // output tokens
  std::optional<int64_t> seed;    // nothing: a fresh one
  size_t max_tokens = 16;
  size_t min_tokens = 0;  // no eos or stop token before
  bool ignore_eos = false;
  Shared<int32_t> stop_token_ids;
  Shared<std::string> stop;                      // each not empty
  bool include_stop = false;                     // keep the matched stop string in the text
  Shared<std::pair<int32_t, float>> logit_bias;  // ascending, each token once
  Shared<int32_t> allowed_token_ids;             // empty: all; ascending, each once
  Shared<std::vector<int32_t>> bad_words;        // token sequences that must not be completed
  int logprobs = -1;         // alternatives per output token; -1 = none, 0 = chosen only
  int prompt_logprobs = -1;  // the same per prompt token
  bool skip_special_tokens = true;
};

// One token with the log-probability of the model's raw distribution (before temperature,
// penalties and masks) and the likeliest alternatives.
struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;
  int64_t rank = 0;                            // 1 = the likeliest
  std::vector<std::pair<int32_t, float>> top;  // descending
};

enum class FinishReason { kStop, kLength, kAbort, kError };

using Clock = std::chrono::steady_clock;

// Times of a request, for the metrics.
struct RequestTimes {
  Clock::time_point arrived, scheduled, first_token, last_token;
};

// News of one request after a step. Text may lag behind tokens: it is held back while a character
// is incomplete or while it could be the start of a stop string.
struct RequestOutput {
  std::string text;
  std::vector<int32_t> tokens;
  std::vector<TokenLogprob> logprobs;  // one a token when asked
  // With the first output when asked: one a prompt token, the first without value.
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  std::optional<FinishReason> finish;  // the last output of the request
  // Why it stopped: the stop string, the stop token's id (that of a further eos, too), or nothing
  // (the first eos, length, masks that leave no token).
  std::variant<std::monostate, std::string, int32_t> stop_reason;
  std::string error;  // with kError
};

// Receives outputs on the engine's thread; must not block.
class OutputSink {
 public:
  virtual ~OutputSink() = default;
  virtual void on_output(RequestOutput output) = 0;
};

struct Request {
  std::vector<int32_t> prompt;  // not empty
  SamplingParams sampling;
  std::shared_ptr<OutputSink> sink;
  // The prompt is all tokens of a text, and so cannot end inside a character.
  bool prompt_is_text = false;
};

using RequestId = uint64_t;

}  // namespace octet
