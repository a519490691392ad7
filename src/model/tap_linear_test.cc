#include "src/model/tap_linear.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/model/float_linear.h"

namespace octet {
namespace {

// y = 1 + x W^T with W [2, 3]: what is shown is x and x W^T alone.
TEST(TapLinear, ShowsInputAndOwnOutput) {
  const std::vector<float> w = {1, 2, 3, 4, 5, 6}, x = {1, 0, -1, 2, 1, 0};
  ThreadTeam team(2);
  std::vector<float> seen_x, seen_y;
  const auto keep = [](std::vector<float>& to, size_t columns) {
    return [&to, columns](Worker& worker, const Rows& v) {
      const auto [begin, end] = worker.share(v.m);  // each brings its rows
      for (size_t r = begin; r < end; ++r)
        std::copy_n(v.x + r * v.ld, columns, to.data() + r * columns);
    };
  };
  TapLinear tap(std::make_unique<FloatLinear>(w.data(), kernels::FloatType::kF32, 2, 3,
                                              std::vector<float>(), team),
                keep(seen_x, 3), keep(seen_y, 2));
  StageBuffer buffer(2, 3, 1);
  for (bool accumulate : {false, true}) {
    seen_x.assign(6, 0);
    seen_y.assign(4, 0);
    std::vector<float> y(4, 1.0f);
    team.run([&](Worker& worker) {
      const Rows in = {x.data(), 3, 2};
      tap.stage(worker, in, buffer, 0);
      worker.barrier();
      tap.compute(worker, in, {y.data(), 2, accumulate}, buffer, 0);
    });
    const float one = accumulate ? 1 : 0;
    EXPECT_EQ(y, (std::vector<float>{one - 2, one - 2, one + 4, one + 13}));
    EXPECT_EQ(seen_x, x);
    EXPECT_EQ(seen_y, (std::vector<float>{-2, -2, 4, 13}));
  }
}

}  // namespace
}  // namespace octet
