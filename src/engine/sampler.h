// From logits to a token: masks, penalties, temperature, top-k, top-p, min-p, seeded draws.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <unordered_map>
#include <vector>

#include "src/engine/request.h"

namespace octet {

// The sampling state of one sequence. The same seed and logits give the same tokens, whatever else
// runs beside it.
class Sampler {
 public:
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
          std::vector<int32_t> eos_ids);

  // NaN becomes -infinity and what is huge a large number, so that all that follows can compare
  // and subtract: a broken model must give bad text, not bring the process down.
  static void make_safe(std::span<float> logits);

  // Draws the next token from safe logits [vocab] (overwritten) and records it. With
  // params.logprobs >= 0 fills `logprob`. Nothing when the request's masks leave no token.
  std::optional<int32_t> sample(std::span<float> logits, TokenLogprob* logprob);

  const std::vector<int32_t>& output() const { return output_; }

  // The log-probability of `token` and the `top` likeliest, from raw but safe logits.
  static TokenLogprob logprob_of(std::span<const float> logits, int32_t token, int top);

 private:
  bool masks() const;
  void mask(std::span<float> logits) const;
  void penalize(std::span<float> logits) const;
  int32_t draw(std::span<const float> logits);

  SamplingParams params_;
  std::vector<int32_t> eos_ids_;                 // masked below min_tokens, as stop tokens are
  std::unordered_map<int32_t, int64_t> counts_;  // of output tokens
  std::vector<int32_t> seen_;                    // distinct prompt tokens, for repetition_penalty
  std::vector<int32_t> output_;
  std::mt19937_64 rng_;
};

}  // namespace octet
