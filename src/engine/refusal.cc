#include "src/engine/refusal.h"

#include <algorithm>
#include <limits>
#include <span>
#include <unordered_set>

namespace octet {
namespace {

// Bounds within which the sampler's arithmetic stays finite.
constexpr double kMaxBias = 1e6, kMaxNumber = std::numeric_limits<double>::max();
constexpr double kMinTopP = std::numeric_limits<double>::min();  // above 0

using Field = Refusal::Field;
using Reason = Refusal::Reason;

// Keeps the first refusal.
class Checks {
 public:
  explicit Checks(int64_t vocab) : vocab_(vocab) {}

  void refuse(const Refusal& why) {
    if (!first_) first_ = why;
  }
  void ids(std::span<const int32_t> ids, Field field) {
    const double last = static_cast<double>(vocab_ - 1);
    for (int32_t id : ids)
      if (id < 0 || id >= vocab_)
        refuse({Reason::kUnknownToken, field, static_cast<double>(id), 0, last});
  }
  void range(double value, double least, double most, Field field) {
    if (value >= least && value <= most) return;  // not NaN
    refuse({Reason::kOutOfRange, field, value, least, most});
  }
  const std::optional<Refusal>& first() const { return first_; }

 private:
  int64_t vocab_;
  std::optional<Refusal> first_;
};

// Whether other members forbid every allowed token from the start.
bool nothing_left(const SamplingParams& p, std::span<const int32_t> eos_ids) {
  if (p.allowed_token_ids.empty()) return false;
  std::unordered_set<int32_t> forbidden;
  for (const auto& word : p.bad_words)
    if (word.size() == 1) forbidden.insert(word[0]);
  if (p.min_tokens > 0) {
    forbidden.insert(eos_ids.begin(), eos_ids.end());
    forbidden.insert(p.stop_token_ids.begin(), p.stop_token_ids.end());
  }
  return std::all_of(p.allowed_token_ids.begin(), p.allowed_token_ids.end(),
                     [&](int32_t id) { return forbidden.contains(id); });
}

}  // namespace

std::optional<Refusal> refusal_of(const Request& r, const RequestLimits& limits) {
  const SamplingParams& p = r.sampling;
  Checks check(limits.vocab);
  if (r.prompt.empty()) check.refuse({Reason::kEmpty, Field::kPrompt});
  check.ids(r.prompt, Field::kPrompt);
  check.ids(p.stop_token_ids, Field::kStopTokens);
  check.ids(p.allowed_token_ids, Field::kAllowedTokens);
  for (const auto& word : p.bad_words) {
    if (word.empty()) check.refuse({Reason::kEmpty, Field::kBadWords});
    check.ids(word, Field::kBadWords);
  }
  if (nothing_left(p, limits.eos_ids)) check.refuse({Reason::kNothingLeft, Field::kAllowedTokens});
  for (const auto& [id, bias] : p.logit_bias) {
    check.ids({&id, 1}, Field::kLogitBias);
    check.range(bias, -kMaxBias, kMaxBias, Field::kLogitBias);
  }
  check.range(p.temperature, 0, kMaxNumber, Field::kTemperature);
  check.range(p.top_p, kMinTopP, 1, Field::kTopP);
  check.range(p.min_p, 0, 1, Field::kMinP);
  check.range(p.repetition_penalty, kMinRepetitionPenalty, kMaxRepetitionPenalty,
              Field::kRepetitionPenalty);
  check.range(p.frequency_penalty, -kMaxBias, kMaxBias, Field::kFrequencyPenalty);
  check.range(p.presence_penalty, -kMaxBias, kMaxBias, Field::kPresencePenalty);
  for (const std::string& stop : p.stop)
    if (stop.empty()) check.refuse({Reason::kEmpty, Field::kStop});
  if (p.max_tokens < 1) check.refuse({Reason::kNoOutput, Field::kMaxTokens});
  if (r.prompt.size() + p.max_tokens > limits.max_model_len)
    check.refuse({.reason = Reason::kTooLong,
                  .field = Field::kLength,
                  .prompt_tokens = r.prompt.size(),
                  .output_tokens = p.max_tokens,
                  .max_model_len = limits.max_model_len});
  if (!limits.has_tokenizer && !p.stop.empty()) check.refuse({Reason::kNoTokenizer, Field::kStop});
  return check.first();
}

}  // namespace octet
