#include "src/quant/kv_range.h"

#include <gtest/gtest.h>

#include "src/quant/observer.h"

namespace octet {
namespace {

TEST(KvRange, LargestOfAllSamplesOver127) {
  KvRange r(3);
  const std::vector<float> a = {1, -254, 0, 99, -127, 2, 0, 99}, b = {3, 4, 0};
  r.observe(a.data(), 4, 2);
  r.observe(b.data(), 3, 1);
  EXPECT_EQ(r.scale({}), (std::vector<float>{1, 2, kMinQuantScale}));
  EXPECT_EQ(r.scale({2, 0.5f, 1}), (std::vector<float>{0.5f, 4, kMinQuantScale}));
}

}  // namespace
}  // namespace octet
