// Why a request can never run. What its parts are called is up to those who take requests from
// people: src/server/api/refusals.h for clients of the API.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "src/base/error.h"
#include "src/engine/request.h"

namespace octet {

struct Refusal {
  enum class Reason {
    kEmpty,         // the prompt, a stop string or a bad word
    kUnknownToken,  // an id outside the vocabulary
    kOutOfRange,    // NaN too
    kNoOutput,      // not one token to generate
    kTooLong,       // prompt and output, for the context
    kNoTokenizer,   // that stop strings need
    kNothingLeft,   // of the allowed tokens, by bad words and min_tokens
  };
  enum class Field {
    kPrompt,
    kStop,
    kStopTokens,
    kAllowedTokens,
    kBadWords,
    kLogitBias,
    kTemperature,
    kTopP,
    kMinP,
    kRepetitionPenalty,
    kFrequencyPenalty,
    kPresencePenalty,
    kMaxTokens,
    kLength,  // of prompt and output together
  };

  Reason reason;
  Field field;
  double found = 0, least = 0, most = 0;                           // kUnknownToken, kOutOfRange
  size_t prompt_tokens = 0, output_tokens = 0, max_model_len = 0;  // kTooLong
};

// What requests have to fit.
struct RequestLimits {
  int64_t vocab;
  size_t max_model_len;  // prompt and output tokens
  bool has_tokenizer;
  std::span<const int32_t> eos_ids;  // forbidden below min_tokens
};

// The first thing that is wrong with a request; nothing: it can run.
std::optional<Refusal> refusal_of(const Request& request, const RequestLimits& limits);

class RequestError : public Error {
 public:
  explicit RequestError(const Refusal& why)
      : Error("the request can never run", ErrorKind::kUsage), why_(why) {}
  const Refusal& why() const { return why_; }

 private:
  Refusal why_;
};

}  // namespace octet
