// How the channels between up and down are scaled, turned and split so that int8 holds them all:
// the input of down has a few channels, and in them a few tokens, far above the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/checkpoint/dtype.h"
#include "src/machine/thread_team.h"
#include "src/quant/exact.h"
#include "src/quant/observer.h"

namespace octet {

struct MlpChannelOptions {
  size_t copies = 0;  // channels that are added
  // What is left of the noise of rounding down's weights; 1 = nearest, less with GPTQ.
  double weight_noise = 0.5;
  // Copies of a channel take unequal parts of it, from 1 - spread to 1 + spread of an equal share:
  // their rounding errors do not add up then.
  double spread = 0.15;
  double margin = 1;  // on the tail that cross-validation finds
};

inline constexpr size_t kFolds = 4;

// The inputs of down on calibration tokens, and down itself.
struct MlpInputs {
  const float* x;  // [tokens, channels]
  size_t tokens, channels;
  std::span<const float> token_weight;  // [tokens]
  std::span<const uint8_t> fold;        // [tokens] below kFolds: for cross-validation
  const FloatWeight* down;              // [n, channels]
};

struct MlpPlan {
  std::vector<float> scale;  // [channels] for fuse() into down; negative where a sign is turned
  ChannelSplit split;        // of the scaled channels, for split_channels()
  std::optional<QuantParams> params;  // of down's input after both; none per token
  // Expected error of down's output from rounding its input: sum_t weight sum_c |W_c|^2 e_tc^2.
  double error = 0;
};

// For one static scale (rounded to `stored`). Every channel gets the step, in proportion to the
// common one, that costs least: rounding against clipping, measured on the tokens. Text that was
// not seen has longer tails; by how much comes from cross-validation over the folds. Signs and
// offset are chosen so that long tails have more levels. Copies go where they lower the expected
// error of down's output most: that of its input, and that of its weights, which follows the
// largest column of every row.
MlpPlan plan_static_mlp(const MlpInputs& in, const MlpChannelOptions& options, DType stored,
                        ThreadTeam& team);

// For a scale per token, max_c |x_tc / a_c|: the amplitudes a_c = (E|x_c|^p / |W_c|^2)^(1/(p+2))
// minimize a bound of the error; of several p the one of least error is taken.
MlpPlan plan_dynamic_mlp(const MlpInputs& in, const MlpChannelOptions& options, ThreadTeam& team);

}  // namespace octet
