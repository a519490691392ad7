// Rows on the grids of both kinds, by hand.
#include "src/model/input_grid.h"

#include <gtest/gtest.h>

#include <vector>

namespace octet {
namespace {

TEST(InputGrid, OneScaleForAll) {
  const InputGrid grid{false, 0.5f, -28};  // levels from -50 to 77.5
  EXPECT_EQ(grid.low(), -50);
  EXPECT_EQ(grid.high(), 77.5f);
  const std::vector<float> x = {0, 0.2f, 0.3f, -0.75f, 100, -100};
  std::vector<float> y(x.size());
  grid.round(x.data(), x.size(), y.data());
  EXPECT_EQ(y, (std::vector<float>{0, 0, 0.5f, -1, 77.5f, -50}));
}

TEST(InputGrid, OneScaleForEachToken) {
  const InputGrid grid{true, 1, 0};
  const std::vector<float> x = {254, 3, -2.9f, 0};  // scale 2; 1.5 and -1.45
  std::vector<float> y(x.size());
  grid.round(x.data(), x.size(), y.data());
  EXPECT_EQ(y, (std::vector<float>{254, 4, -2, 0}));
}

}  // namespace
}  // namespace octet
