// From logits to a token: temperature, top-k, top-p, min-p, seeded draws.
#pragma once

#include <cstdint>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "src/engine/largest.h"
#include "src/engine/logit_rules.h"
#include "src/engine/request.h"

namespace octet {

// The sampling state of one sequence. The same seed and logits give the same tokens, whatever else
// runs beside it.
class Sampler {
 public:
  Sampler(const SamplingParams& params, std::span<const int32_t> prompt,
          const std::vector<int32_t>& eos_ids);

  // NaN becomes -infinity and what is huge a large number, so that all that follows can compare
  // and subtract: a broken model must give bad text, not bring the process down.
  static void make_safe(std::span<float> logits);

  // Draws the next token from safe logits [vocab] (overwritten) and records it. With
  // params.logprobs >= 0 fills `logprob`. Nothing when the request's masks leave no token.
  std::optional<int32_t> sample(std::span<float> logits, TokenLogprob* logprob);
  // The same token, from the wanted() choices that come first and perhaps others.
  std::optional<int32_t> sample(std::vector<Choice> choices);
  // How many of the largest logits decide on the next token; 0: all logits count.
  size_t wanted() const;

  const LogitRules& rules() const { return rules_; }
  const std::vector<int32_t>& output() const { return rules_.output(); }

  // The log-probability of `token` and the `top` likeliest, from raw but safe logits.
  static TokenLogprob logprob_of(std::span<const float> logits, int32_t token, int top);

 private:
  struct Candidate {
    Choice choice;
    double weight;  // of the likeliest: 1
  };
  bool greedy() const;
  double inverse_temperature() const;
  double uniform();  // [0, 1)
  // The fewest that hold the mass `wanted`, those that come first; returns what they hold.
  static double keep_nucleus(std::vector<Candidate>& c, double wanted);
  int32_t draw_among(const std::vector<Candidate>& c, double total);
  int32_t draw(std::vector<Choice> choices);
  // Without top_k; the largest of `logits` (overwritten) is `max`. Without top_p, too, the inverse
  // of the distribution function of tokens in their order, at a uniform number.
  int32_t draw_from_all(std::span<float> logits, float max);
  int32_t took(int32_t token);

  SamplingParams params_;
  LogitRules rules_;
  std::mt19937_64 rng_;
};

}  // namespace octet
