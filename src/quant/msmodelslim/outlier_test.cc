#include "src/quant/msmodelslim/outlier.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>

#include "src/quant/msmodelslim/outlier_testing.h"

namespace octet {
namespace {

using tests::weight;

std::unique_ptr<OutlierMethod> method_of(AntiMethod method, const FlexSmooth& flex = {}) {
  ToolMethod m;
  m.anti_method = method;
  return make_outlier_method(m, flex, /*as_the_tool=*/false);
}

// Amplitudes a = 4, 9, 0, 1 of the input, w = 1, 4, 5, 0 of the weights: sqrt(a) / sqrt(w) with w
// and the result at least 1e-5.
TEST(OutlierMethod, M1ByHand) {
  OutlierStats stats(4, 2, KeepInputs::kNone, false);
  const std::vector<float> x = {-4, 2, 0, 1, 3, 0, 0, -0.5f}, later = {1, -9, 0, 0};
  tests::show(stats, {x.data(), 4, 2});
  tests::show(stats, {later.data(), 4, 1});
  const FloatWeight q = weight(2, 4, {1, -2, 5, 0, -0.25f, 0.5f, 0, 0});
  const FloatWeight k = weight(1, 4, {0.5f, 4, 3, 0});
  ThreadTeam team(1);
  const std::vector<float> s = method_of(AntiMethod::kM1)->scale({stats, {&q, &k}}, team);
  const double want[] = {2 / 1.0, 3 / 2.0, 1e-5, 1 / std::sqrt(1e-5)};
  ASSERT_EQ(s.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(s[i], want[i], 4 * FLT_EPSILON * want[i]) << i;
}

// Four heads of width 2, two of them to a head of the source: m4 means a^.9 / w^.1 over the group.
TEST(OutlierMethod, M4ByHandWithGroupedHeads) {
  OutlierStats stats(8, 1, KeepInputs::kNone, false);
  const std::vector<float> x = {1, 2, 3, 4, 5, 6, 7, 8};
  tests::show(stats, {x.data(), 8, 1});
  const FloatWeight o = weight(1, 8, {8, 7, 6, 5, 4, 3, 2, 1});
  ThreadTeam team(1);
  const std::vector<float> s = method_of(AntiMethod::kM4)->scale({stats, {&o}, 4, 2}, team);
  ASSERT_EQ(s.size(), 8u);
  const auto single = [&](size_t i) {
    return std::pow(double{x[i]}, 0.9) / std::pow(double{o.w[i]}, 0.1);
  };
  for (size_t i = 0; i < 8; ++i) {
    const size_t first = i / 4 * 4 + i % 2;
    const double want = (single(first) + single(first + 2)) / 2;
    EXPECT_NEAR(s[i], want, 8 * FLT_EPSILON * want) << i;
  }
}

// m6 takes the largest amplitudes of the group first.
TEST(OutlierMethod, M6ByHandWithGroupedHeads) {
  OutlierStats stats(4, 1, KeepInputs::kNone, false);
  const std::vector<float> x = {1, -9, 4, 2};
  tests::show(stats, {x.data(), 4, 1});
  const FloatWeight o = weight(2, 4, {1, 2, 3, -4, 0.5f, 0, -1, 1});
  ThreadTeam team(1);
  const FlexSmooth flex{{{0.5f, 0.25f}}, 0};
  const std::vector<float> s = method_of(AntiMethod::kM6, flex)->scale({stats, {&o}, 2, 2}, team);
  const double want[] = {2 / std::pow(3.0, 0.25), 3 / std::sqrt(2.0)};
  ASSERT_EQ(s.size(), 4u);
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(s[i], want[i % 2], 8 * FLT_EPSILON * want[i % 2]) << i;
}

TEST(OutlierMethod, WhatEachMethodTouches) {
  const FlexSmooth flex{.exponents = {}, .o_kept_below = 2};
  const auto touched = [&](AntiMethod m, int64_t layer) {
    std::string s;
    for (const PartRow& row : part_rows())  // q/k/v, o, gate/up, down
      s += method_of(m, flex)->applies(row.part, layer) ? '1' : '0';
    return s;
  };
  EXPECT_EQ(method_of(AntiMethod::kNone), nullptr);
  for (AntiMethod m : {AntiMethod::kM1, AntiMethod::kM2, AntiMethod::kM3, AntiMethod::kM5})
    EXPECT_EQ(touched(m, 0), "1010");
  EXPECT_EQ(touched(AntiMethod::kM4, 0), "1111");
  EXPECT_EQ(touched(AntiMethod::kM6, 1), "1011");
  EXPECT_EQ(touched(AntiMethod::kM6, 2), "1111");
}

}  // namespace
}  // namespace octet
