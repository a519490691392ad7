#include "src/server/api/refusals.h"

#include <fmt/format.h>

namespace octet::server {
namespace {

using Field = Refusal::Field;
using Reason = Refusal::Reason;

const char* member_of(Field field) {
  switch (field) {
    case Field::kPrompt:
      return "prompt";
    case Field::kStop:
      return "stop";
    case Field::kStopTokens:
      return "stop_token_ids";
    case Field::kAllowedTokens:
      return "allowed_token_ids";
    case Field::kBadWords:
      return "bad_words";
    case Field::kLogitBias:
      return "logit_bias";
    case Field::kTemperature:
      return "temperature";
    case Field::kTopP:
      return "top_p";
    case Field::kMinP:
      return "min_p";
    case Field::kRepetitionPenalty:
      return "repetition_penalty";
    case Field::kFrequencyPenalty:
      return "frequency_penalty";
    case Field::kPresencePenalty:
      return "presence_penalty";
    case Field::kMaxTokens:
      return "max_tokens";
    case Field::kLength:
      return "input_tokens";
  }
  OCTET_CHECK(false);
}

const char* emptiness_of(Field field) {
  switch (field) {
    case Field::kStop:
      return "a stop string is empty";
    case Field::kBadWords:
      return "a bad word is empty";
    default:
      return "the prompt is empty";
  }
}

Error message_of(const Refusal& why) {
  switch (why.reason) {
    case Reason::kEmpty:
      return usage_error(emptiness_of(why.field));
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
    case Reason::kNothingLeft:
      return usage_error("bad_words, or eos and stop tokens below min_tokens, are all there is");
  }
  OCTET_CHECK(false);
}

}  // namespace

Error error_of(const Refusal& why) { return message_of(why).field(member_of(why.field)); }

}  // namespace octet::server
