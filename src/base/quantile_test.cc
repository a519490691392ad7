#include "src/base/quantile.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(Quantile, BetweenNeighbours) {
  const std::vector<float> v = {1, 2, 4, 8};  // at 0, 1/3, 2/3 and 1
  EXPECT_DOUBLE_EQ(quantile(v, 0), 1);
  EXPECT_DOUBLE_EQ(quantile(v, 0.25), 1.75);
  EXPECT_DOUBLE_EQ(quantile(v, 0.5), 3);
  EXPECT_DOUBLE_EQ(quantile(v, 0.975), 7.7);
  EXPECT_DOUBLE_EQ(quantile(v, 1), 8);
  EXPECT_DOUBLE_EQ(quantile(std::vector<double>{5}, 0.3), 5);
}

}  // namespace
}  // namespace octet
