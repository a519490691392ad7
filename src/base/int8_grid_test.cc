#include "src/base/int8_grid.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

constexpr GridRule kAsTool = {.offset_is_rounded = true};
constexpr GridRule kUnbounded = {.offset_is_rounded = true, .saturates = false};
constexpr GridRule kByInverse = {.by_inverse = true};

// By hand: scale 0.5, offset 3, so x = 1 is q = 5, two steps from zero.
TEST(Int8Grid, AllRulesAgreeInsideTheRange) {
  for (float x : {-10.0f, -1.0f, 0.0f, 0.2f, 1.0f, 20.0f}) {
    const float steps = round_even(x * 2);
    EXPECT_EQ((Int8Grid<GridRule{}>(0.5f, 3).level(x)), steps);
    EXPECT_EQ((Int8Grid<kAsTool>(0.5f, 3).level(x)), steps);
    EXPECT_EQ((Int8Grid<kUnbounded>(0.5f, 3).level(x)), steps);
    EXPECT_EQ((Int8Grid<kByInverse>(0.5f, 3).level(x)), steps);
    EXPECT_EQ((Int8Grid<kAsTool>(0.5f, 3).value(x)), steps / 2);
  }
}

TEST(Int8Grid, Saturates) {
  EXPECT_EQ((Int8Grid<GridRule{}>(1, 3).level(500)), 124);  // q = 127
  EXPECT_EQ((Int8Grid<GridRule{}>(1, 3).level(-500)), -131);
  EXPECT_EQ((Int8Grid<kAsTool>(1, 3).level(500)), 124);
  EXPECT_EQ((Int8Grid<kUnbounded>(1, 3).level(500)), 500);
}

// A tie: with an odd offset added before rounding it goes to the other side.
TEST(Int8Grid, WhereTheOffsetIsAddedDecidesTies) {
  EXPECT_EQ((Int8Grid<GridRule{}>(1, 1).level(2.5f)), 2);
  EXPECT_EQ((Int8Grid<kAsTool>(1, 1).level(2.5f)), 3);  // rne(3.5) - 1
}

// 1 / 0.1f is rounded: the product is just above the tie that the quotient is on.
TEST(Int8Grid, TheInverseRoundsOnItsOwn) {
  const float scale = 0.1f, x = 0.25f;
  EXPECT_EQ((Int8Grid<GridRule{}>(scale, 0).level(x)), round_even(x / scale));
  EXPECT_EQ((Int8Grid<kByInverse>(scale, 0).level(x)), round_even(x * (1.0f / scale)));
}

}  // namespace
}  // namespace octet
