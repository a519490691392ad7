#include "src/dist/restarts.h"

#include <gtest/gtest.h>

#include <vector>

namespace octet {
namespace {

using std::chrono::minutes;
using std::chrono::seconds;

TEST(Restarts, PausesDoubleUpToAMinute) {
  Restarts restarts(9);
  std::vector<int64_t> pauses;
  while (const auto pause = restarts.next(seconds(3))) pauses.push_back(pause->count());
  EXPECT_EQ(pauses, (std::vector<int64_t>{1, 2, 4, 8, 16, 32, 60, 60, 60}));
  EXPECT_EQ(restarts.count(), 9u);
}

TEST(Restarts, OneThatRanLongEndsTheRow) {
  Restarts restarts(2);
  EXPECT_EQ(restarts.next(seconds(0)), seconds(1));
  EXPECT_EQ(restarts.next(minutes(9)), seconds(2));
  EXPECT_EQ(restarts.next(minutes(10)), seconds(1));
  EXPECT_EQ(restarts.next(seconds(0)), seconds(2));
  EXPECT_EQ(restarts.next(seconds(0)), std::nullopt);
}

TEST(Restarts, NoneUnlessWanted) { EXPECT_EQ(Restarts(0).next(minutes(100)), std::nullopt); }

}  // namespace
}  // namespace octet
