// How the channels between up and down are scaled and split so that one static scale can hold them
// all: the input of down has a few channels, and in them a few tokens, far above the rest.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "src/machine/thread_team.h"
#include "src/quant/exact.h"

namespace octet {

struct MlpChannelOptions {
  size_t copies = 0;  // channels that are added
  // What is left of the noise of rounding down's weights; 1 = nearest, less with GPTQ.
  double weight_noise = 0.5;
  // Copies of a channel take unequal parts of it, from 1 - spread to 1 + spread of an equal share:
  // their rounding errors do not add up then.
  double spread = 0.15;
};

inline constexpr size_t kFolds = 8;

// The inputs of down on calibration tokens, and down itself.
struct MlpInputs {
  const float* x;  // [tokens, channels]
  size_t tokens, channels;
  std::span<const float> token_weight;  // [tokens]
  std::span<const uint8_t> fold;        // [tokens] below kFolds: for cross-validation
  const FloatWeight* down;              // [n, channels]
};

struct MlpPlan {
  std::vector<float> scale;  // [channels] for fuse() into down
  ChannelSplit split;        // of the scaled channels, for split_channels()
  float range = 0;           // of down's input after both: [-range, range]
  double margin = 1;         // range over the largest value seen
};

// Channels are brought to one amplitude, and copies given where they lower the expected error of
// down's output most: its input's rounding, sum_c |W_c|^2 a_c^2 / m_c, plus its weights' rounding,
// which follows the largest column of every row. The margin is the one that is best for tokens of
// one fold when the amplitudes come from the others.
MlpPlan plan_mlp_channels(const MlpInputs& in, const MlpChannelOptions& options, ThreadTeam& team);

}  // namespace octet
