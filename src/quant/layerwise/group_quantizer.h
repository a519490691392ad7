// The linears of one input made int8: range of the input, rounding of the weights, bias.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "src/dist/communicator.h"
#include "src/quant/int8/quantized_layer.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/settings/recipe.h"

namespace octet {

// What a group of linears reads, on all calibration tokens.
struct GroupInput {
  const float* x;  // [tokens, k]
  size_t tokens, k;
  std::span<const float> weight;      // [tokens]: how much an error of the output counts
  std::span<const uint8_t> fold;      // [tokens]: for cross-validation
  std::optional<QuantParams> params;  // of a static range that is known beforehand
};

// Expected squared error of the outputs from the rounding (and clipping) of the input:
// sum_t weight sum_i |W_i|^2 (x_i - dequantized x_i)^2, for both kinds of scales.
struct InputError {
  double fixed, per_token, signal;  // signal: the same sum over x_i^2
};

// What a group's outputs should be on average, for corrected biases to see to: those of the float
// weights on the mean input of the float stream [k], or the mean output itself [n of all parts];
// both null: the float outputs on the input at hand. Means are weighted.
struct WantedMeans {
  const std::vector<double>* input = nullptr;
  const std::vector<double>* output = nullptr;
};

class GroupQuantizer {
 public:
  // `stored`: the dtype of input scales. All ranks must be given the same.
  GroupQuantizer(const Recipe& recipe, DType stored, ThreadTeam& team, Communicator& ranks)
      : recipe_(recipe), stored_(stored), team_(team), ranks_(ranks) {}

  InputError input_error(const GroupInput& in, const std::vector<const FloatWeight*>& weights);

  // Rounds the group to `scheme` (static or per token).
  std::vector<QuantizedLinear> quantize(const GroupInput& in,
                                        const std::vector<const FloatWeight*>& weights,
                                        Scheme scheme, const WantedMeans& means = {});

 private:
  const Recipe& recipe_;
  DType stored_;
  ThreadTeam& team_;
  Communicator& ranks_;
};

// Weighted mean [k] of the first `tokens` rows of x [*, k], or of the chosen ones.
std::vector<double> weighted_mean(const float* x, size_t tokens, size_t k,
                                  std::span<const float> weight, ThreadTeam& team);
std::vector<double> weighted_mean(const float* x, std::span<const size_t> rows, size_t k,
                                  std::span<const float> weight, ThreadTeam& team);

}  // namespace octet
