// What a request changes in the logits before a token is drawn: biases, masks and penalties.
//
// No rule makes of a larger logit a smaller one, also as floats round: applied to upper bounds of
// logits they give upper bounds of what they make of the logits.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

#include "src/engine/request.h"

namespace octet {

// The logit of a token that is not to be drawn.
inline constexpr float kMasked = -INFINITY;

class LogitRules {
 public:
  // `eos_ids` are masked below min_tokens, as stop tokens are; they need not be in the vocabulary.
  LogitRules(const SamplingParams& params, std::span<const int32_t> prompt,
             const std::vector<int32_t>& eos_ids);

  const std::vector<int32_t>& output() const { return output_; }
  void add(int32_t token);  // to the output

  // Whether a logit may change at the next step; whether one may be masked.
  bool any() const { return masks() || penalizes() || !params_.logit_bias.empty(); }
  bool masks() const;
  // All logits [vocab] of the next step.
  void apply(std::span<float> logits) const;
  // The logit of one token: the same bits.
  float apply(int32_t token, float logit) const;

 private:
  bool penalizes() const;
  float penalized(float logit, int64_t count) const;
  void forbid();

  SamplingParams params_;
  std::vector<int32_t> output_;
  std::vector<int32_t> ends_;       // masked below min_tokens, ascending
  std::vector<int32_t> forbidden_;  // the next tokens that would complete a bad word, ascending
  // With penalties: how often the tokens of the output, and of the prompt if that counts, are in
  // the output.
  std::unordered_map<int32_t, int64_t> counts_;
};

}  // namespace octet
