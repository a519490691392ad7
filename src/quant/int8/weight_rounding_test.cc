#include "src/quant/int8/weight_rounding.h"

#include <gtest/gtest.h>

#include "src/quant/int8/quant_params.h"

namespace octet {
namespace {

TEST(RoundWeight, SymmetricByHand) {
  ThreadTeam team(2);
  // Row 0: scale 2, ties to even. Row 1: only negative. Row 2: zeros.
  const RoundedWeight r = round_weight({254, 1, -3, 5, -127, -1, 0, -0.4f, 0, 0, 0, 0}, 3, 4,
                                       /*asymmetric=*/false, team);
  EXPECT_EQ(r.scale, (std::vector<float>{2, 1, kMinQuantScale}));
  EXPECT_EQ(r.offset, (std::vector<float>{0, 0, 0}));
  EXPECT_EQ(r.q, (std::vector<int8_t>{127, 0, -2, 2, -127, -1, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(r.sum, (std::vector<int64_t>{127, -128, 0}));
}

TEST(RoundWeight, AsymmetricByHand) {
  ThreadTeam team(1);
  // Row 0: range -1 to 254, scale 1, offset 1 - 128. Row 1: positive, so the range begins at 0.
  const RoundedWeight r =
      round_weight({-1, 254, 3, 0, 510, 2, 8, 255}, 2, 4, /*asymmetric=*/true, team);
  EXPECT_EQ(r.scale, (std::vector<float>{1, 2}));
  EXPECT_EQ(r.offset, (std::vector<float>{-127, -128}));
  EXPECT_EQ(r.q, (std::vector<int8_t>{-128, 127, -124, -127, 127, -127, -124, 0}));
  EXPECT_EQ(r.sum[0], -252);
}

}  // namespace
}  // namespace octet
