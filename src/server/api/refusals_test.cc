// The words of the engine's refusals, as clients may match them.
#include "src/server/api/refusals.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

#include "src/server/http/errors.h"

namespace octet::server {
namespace {

using Field = Refusal::Field;
using Reason = Refusal::Reason;

struct RefusalCase {
  Refusal why;
  const char* param;
  const char* message;
};

TEST(Refusals, Words) {
  const double most = std::numeric_limits<double>::max();
  Refusal too_long{Reason::kTooLong, Field::kLength};
  too_long.prompt_tokens = 100;
  too_long.output_tokens = 29;
  too_long.max_model_len = 128;
  const std::vector<RefusalCase> cases = {
      {{Reason::kEmpty, Field::kPrompt}, "prompt", "the prompt is empty; field prompt"},
      {{Reason::kEmpty, Field::kBadWords}, "bad_words", "a bad word is empty; field bad_words"},
      {{Reason::kEmpty, Field::kStop}, "stop", "a stop string is empty; field stop"},
      {{Reason::kUnknownToken, Field::kPrompt, 999999999, 0, 159},
       "prompt",
       "token id 999999999 is out of vocabulary (0..159); field prompt"},
      {{Reason::kUnknownToken, Field::kStopTokens, -1, 0, 159},
       "stop_token_ids",
       "token id -1 is out of vocabulary (0..159); field stop_token_ids"},
      {{Reason::kUnknownToken, Field::kAllowedTokens, 160, 0, 159},
       "allowed_token_ids",
       "token id 160 is out of vocabulary (0..159); field allowed_token_ids"},
      {{Reason::kOutOfRange, Field::kTemperature, -1, 0, most},
       "temperature",
       "out of range; field temperature; expected 0 to 1.7976931348623157e+308; found -1"},
      {{Reason::kOutOfRange, Field::kTopP, 1.5, std::numeric_limits<double>::min(), 1},
       "top_p",
       "out of range; field top_p; expected 2.2250738585072014e-308 to 1; found 1.5"},
      {{Reason::kOutOfRange, Field::kMinP, 2, 0, 1},
       "min_p",
       "out of range; field min_p; expected 0 to 1; found 2"},
      {{Reason::kOutOfRange, Field::kRepetitionPenalty, 0, 0.01, 1e6},
       "repetition_penalty",
       "out of range; field repetition_penalty; expected 0.01 to 1000000; found 0"},
      {{Reason::kOutOfRange, Field::kFrequencyPenalty, 1e7, -1e6, 1e6},
       "frequency_penalty",
       "out of range; field frequency_penalty; expected -1000000 to 1000000; found 10000000"},
      {{Reason::kOutOfRange, Field::kPresencePenalty, 1e7, -1e6, 1e6},
       "presence_penalty",
       "out of range; field presence_penalty; expected -1000000 to 1000000; found 10000000"},
      {{Reason::kOutOfRange, Field::kLogitBias, 1e7, -1e6, 1e6},
       "logit_bias",
       "out of range; field logit_bias; expected -1000000 to 1000000; found 10000000"},
      {{Reason::kNoOutput, Field::kMaxTokens},
       "max_tokens",
       "max_tokens must be at least 1; field max_tokens"},
      {too_long, "input_tokens",
       "This model's maximum context length is 128 tokens. However, you requested 29 output tokens "
       "and your prompt contains 100 input tokens, 129 in all. Reduce the prompt or the number of "
       "output tokens."},
      {{Reason::kNoTokenizer, Field::kStop}, "stop", "stop strings need a tokenizer; field stop"},
      {{Reason::kNothingLeft, Field::kAllowedTokens},
       "allowed_token_ids",
       "bad_words, or eos and stop tokens below min_tokens, are all there is; field "
       "allowed_token_ids"},
  };
  for (const RefusalCase& c : cases) {
    const ApiError error = to_api_error(error_of(c.why));
    EXPECT_EQ(error.status(), 400u);
    EXPECT_EQ(error.param(), c.param);
    EXPECT_STREQ(error.what(), c.message);
  }
}

}  // namespace
}  // namespace octet::server
