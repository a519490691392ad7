#include "src/quant/layer/kv_range.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "src/quant/int8/quant_params.h"

namespace octet {
namespace {

void run(const std::function<void(Worker&)>& job) {
  static ThreadTeam team(3);
  team.run(job);
}

TEST(KvRange, LargestOfAllSamplesOver127) {
  KvRange r(3);
  const std::vector<float> a = {1, -254, 0, 99, -127, 2, 0, 99}, b = {3, 4, 0};
  run([&](Worker& w) { r.observe(w, {a.data(), 4, 2}); });
  run([&](Worker& w) { r.observe(w, {b.data(), 3, 1}); });
  EXPECT_EQ(r.scale({}), (std::vector<float>{1, 2, kMinQuantScale}));
  EXPECT_EQ(r.scale({2, 0.5f, 1}), (std::vector<float>{0.5f, 4, kMinQuantScale}));
}

// More channels than one worker takes.
TEST(KvRange, OfManyChannels) {
  constexpr size_t kChannels = 75, kRows = 3, kStride = 80;
  std::vector<float> x(kRows * kStride, 1e30f);
  for (size_t r = 0; r < kRows; ++r)
    for (size_t i = 0; i < kChannels; ++i)
      x[r * kStride + i] = static_cast<float>(i + 1) * (r == i % kRows ? -127.0f : 1.0f);
  KvRange range(kChannels);
  run([&](Worker& w) { range.observe(w, {x.data(), kStride, kRows}); });
  const std::vector<float> scale = range.scale({});
  for (size_t i = 0; i < kChannels; ++i) EXPECT_EQ(scale[i], static_cast<float>(i + 1)) << i;
}

TEST(KvRange, KeysAfterRope) {
  // Two heads of one pair; rows rotated by 90 and 0 degrees.
  KvRange r(4, 2, Norm());
  const std::vector<float> x = {1, 2, -3, 4, 0.5f, -8, 0, 1}, cos = {0, 1}, sin = {1, 0};
  run([&](Worker& w) { r.observe_rotated(w, {x.data(), 4, 2}, {cos.data(), sin.data()}); });
  // Rotated, the first row is -2 1 -4 -3.
  const std::vector<float> top = {2, 8, 4, 3};
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(r.scale({})[i], top[i] / 127.0f);
  EXPECT_EQ(r.key_scale(1), (std::vector<float>{8, 8, 4, 4}));
  EXPECT_EQ(r.key_scale(0.5), (std::vector<float>{std::sqrt(8.0f), std::sqrt(8.0f), 2, 2}));
}

// Qwen3: both heads are normalized before they are rotated: (3, 4) / sqrt(12.5) * (1, 2) and
// (0, 2) / sqrt(2) * (1, 2), then by 90 degrees.
TEST(KvRange, NormalizesHeadsBeforeRope) {
  LayerNorms norms;
  norms[NormKind::kKey] = {{1, 2}, {}, 0};
  ModelConfig config;
  config.kv_heads = 2;
  config.head_dim = 2;
  KvRange r = KvRange::of_keys(config, norms);
  const std::vector<float> x = {3, 4, 0, 2}, cos = {0}, sin = {1};
  run([&](Worker& w) { r.observe_rotated(w, {x.data(), 4, 1}, {cos.data(), sin.data()}); });
  const double root = std::sqrt(12.5);
  const double top[] = {8 / root, 3 / root, 2 * std::sqrt(2.0), 0};
  for (size_t i = 0; i < 3; ++i)
    EXPECT_NEAR(r.scale({})[i], top[i] / 127, 1e-6 * top[i] / 127) << i;
  EXPECT_EQ(r.scale({})[3], kMinQuantScale);
}

// A norm that takes the scale has one for all heads.
TEST(KvRange, KeysWithANormShareAScale) {
  KvRange r(4, 2, Norm{{1, 1}, {}, 0});
  const std::vector<float> x = {2, 8, 4, 3};
  run([&](Worker& w) { r.observe(w, {x.data(), 4, 1}); });
  EXPECT_EQ(r.key_scale(1), (std::vector<float>{8, 8, 8, 8}));
  EXPECT_EQ(r.key_scale(0.4), (std::vector<float>{2, 2, 2, 2}));  // of 2.297
}

}  // namespace
}  // namespace octet
