// How the channels of the inputs of o and down are scaled, flipped and split so that int8 holds
// them all: a few channels, and in them a few tokens, stand far above the rest.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "src/checkpoint/dtype.h"
#include "src/dist/communicator.h"
#include "src/machine/thread_team.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/layer/exact.h"
#include "src/quant/layerwise/range_search.h"

namespace octet {

struct ChannelOptions {
  size_t copies = 0;  // channels that are added
  // What is left of the noise of rounding the linear's weights; 1 = nearest, less with GPTQ.
  double weight_noise = 0.5;
  // Copies of a channel take unequal parts of it, from 1 - spread to 1 + spread of an equal share:
  // their rounding errors do not add up then.
  double spread = 0.15;
  double margin = 1;    // on the tail that cross-validation finds
  bool center = false;  // of a static scale: channels may be moved about zero
};

// The inputs of a linear on calibration tokens, and the linear itself. A channel is one output of
// the linear before: of v, whose head is read by `repeat` heads of o's input side by side, or of up
// (repeat 1).
struct ChannelInputs {
  const float* x;  // [tokens, columns]
  size_t tokens, columns;
  std::span<const float> token_weight;  // [tokens]
  std::span<const uint8_t> fold;        // [tokens] below kFolds: for cross-validation
  const FloatWeight* linear;            // [n, columns]
  size_t repeat = 1, width = 1;         // heads, and their size

  size_t channels() const { return columns / repeat; }
  size_t channel(size_t column) const { return column / width / repeat * width + column % width; }
  size_t column(size_t channel, size_t copy) const {
    return (channel / width * repeat + copy) * width + channel % width;
  }
};

struct ChannelPlan {
  std::vector<float> scale;   // [columns] for fuse() into the linear; negative where a sign flips
  std::vector<float> center;  // [channels] what is taken from each before it is scaled; or empty
  ChannelSplit split;         // of the scaled channels, for split_channels(); repeat 1 only
  std::optional<QuantParams> params;  // of the input after both; none per token
  // Expected error of the output from rounding the input: sum_t weight sum_c |W_c|^2 e_tc^2.
  double error = 0;
};

// For one static scale (rounded to `stored`). Every channel gets the step, in proportion to the
// common one, that costs least: rounding against clipping, measured on the tokens. Text that was
// not seen has longer tails; by how much comes from cross-validation over the folds. Signs and
// offset are chosen so that long tails have more levels. Copies (repeat 1 only) go where they lower
// the expected error of the output most: that of the input, and that of the linear's weights, which
// follows the largest column of every row. Channels are moved by the middle of their range. All
// ranks must have the same inputs; they share the work, and get the same plan.
ChannelPlan plan_static(const ChannelInputs& in, const ChannelOptions& options, DType stored,
                        ThreadTeam& team, Communicator& ranks);

// For a scale per token, max_c |x_tc / a_c|: the amplitudes a_c = (E|x_c|^p / |W_c|^2)^(1/(p+2))
// minimize a bound of the error; of several p the one of least error is taken.
ChannelPlan plan_dynamic(const ChannelInputs& in, const ChannelOptions& options, ThreadTeam& team);

}  // namespace octet
