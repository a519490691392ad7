// Which channels of a linear's input are split into how many copies.
#pragma once

#include <functional>
#include <vector>

#include "src/machine/thread_team.h"
#include "src/quant/layer/float_layer.h"

namespace octet {

// Of a channel with so many copies: its step (any unit, the same for all channels), and what
// rounding it costs the output, summed over the tokens.
struct ChannelCost {
  double step = 0, error = 0;
};

// What a linear's input channels carry on average.
struct InputPower {
  std::vector<double> mean_square;  // [channels], weighted as the costs
  size_t tokens;                    // over which
};

struct ChannelCopies {
  std::vector<size_t> copies;
  std::vector<double> step;
  double error = 0;  // of the inputs, all channels
};

// Gives out `added` copies one by one, each to the channel where it lowers the expected error of
// the linear's output most. The linear's weights [n, channels] take the channels' steps over, so
// the largest |w| step / copies of a row sets what rounding that row costs; `weight_noise` of it
// counts.
ChannelCopies give_copies(const FloatWeight& linear, const InputPower& power,
                          const std::function<ChannelCost(size_t channel, double copies)>& cost,
                          size_t added, double weight_noise, ThreadTeam& team);

}  // namespace octet
