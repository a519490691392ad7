#include "src/quant/layerwise/channel_copies.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

namespace octet {
namespace {

// Two outputs of four channels.
FloatWeight linear() {
  FloatWeight w;
  w.shape = {2, 4, false};
  w.w = {1, 1, 1, 1, 1, 1, 1, 1};
  return w;
}

TEST(GiveCopies, GoWhereTheInputErrsMost) {
  ThreadTeam team(2);
  const std::vector<double> error = {1, 100, 10, 1};
  const ChannelCopies c = give_copies(
      linear(), {{1, 1, 1, 1}, 10},
      [&](size_t channel, double copies) {
        return ChannelCost{1, error[channel] / copies};
      },
      5, 0, team);
  // 100/2 -> gain 50, 100/6, 100/12, 10/2 = 5 and 100/20 = 5 (the first of equals), 100/30.
  EXPECT_EQ(c.copies, (std::vector<size_t>{1, 5, 2, 1}));
  EXPECT_DOUBLE_EQ(c.error, 1 + 100.0 / 5 + 10.0 / 2 + 1);
}

TEST(GiveCopies, GoWhereOneColumnRulesTheRows) {
  ThreadTeam team(2);
  const std::vector<double> step = {1, 1, 8, 1};
  const auto cost = [&](size_t channel, double) { return ChannelCost{step[channel], 0}; };
  // Eight copies bring the column to the size of the others; more lower nothing.
  const ChannelCopies c = give_copies(linear(), {{1, 1, 64, 1}, 10}, cost, 7, 1, team);
  EXPECT_EQ(c.copies, (std::vector<size_t>{1, 1, 8, 1}));
}

}  // namespace
}  // namespace octet
