#include "src/server/api/refusals.h"

#include <fmt/format.h>

namespace octet::server {
namespace {

using Part = Refusal::Part;
using Reason = Refusal::Reason;

const char* member_of(Part part) {
  switch (part) {
    case Part::kPrompt:
      return "prompt";
    case Part::kStop:
      return "stop";
    case Part::kStopTokens:
      return "stop_token_ids";
    case Part::kAllowedTokens:
      return "allowed_token_ids";
    case Part::kBadWords:
      return "bad_words";
    case Part::kLogitBias:
      return "logit_bias";
    case Part::kTemperature:
      return "temperature";
    case Part::kTopP:
      return "top_p";
    case Part::kMinP:
      return "min_p";
    case Part::kRepetitionPenalty:
      return "repetition_penalty";
    case Part::kFrequencyPenalty:
      return "frequency_penalty";
    case Part::kPresencePenalty:
      return "presence_penalty";
    case Part::kMaxTokens:
      return "max_tokens";
    case Part::kLength:
      return "input_tokens";
  }
  OCTET_CHECK(false);
}

const char* emptiness_of(Part part) {
  switch (part) {
    case Part::kStop:
      return "a stop string is empty";
    case Part::kBadWords:
      return "a bad word is empty";
    default:
      return "the prompt is empty";
  }
}

Error message_of(const Refusal& why) {
  switch (why.reason) {
    case Reason::kEmpty:
      return usage_error(emptiness_of(why.part));
    case Reason::kUnknownToken:
      return usage_error(fmt::format("token id {:.0f} is out of vocabulary ({:.0f}..{:.0f})",
                                     why.found, why.least, why.most));
    case Reason::kOutOfRange:
      return usage_error("out of range")
          .expected(fmt::format("{} to {}", why.least, why.most))
          .found(fmt::format("{}", why.found));
    case Reason::kNoOutput:
      return usage_error("max_tokens must be at least 1");
    case Reason::kTooLong:
      // Clients recognize it by how it begins.
      return usage_error(fmt::format(
          "This model's maximum context length is {} tokens. However, you requested {} output "
          "tokens and your prompt contains {} input tokens, {} in all. Reduce the prompt or the "
          "number of output tokens.",
          why.max_model_len, why.output_tokens, why.prompt_tokens,
          why.prompt_tokens + why.output_tokens));
    case Reason::kNoTokenizer:
      return usage_error("stop strings need a tokenizer");
  }
  OCTET_CHECK(false);
}

}  // namespace

Error error_of(const Refusal& why) { return message_of(why).field(member_of(why.part)); }

}  // namespace octet::server
