// A layer computes the same after every exact change.
#include "src/quant/layer/exact.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "src/quant/layer/layer_stream.h"
#include "src/quant/layer/layer_testing.h"

namespace octet {
namespace {

using tests::weight;

ModelConfig config() {
  ModelConfig c;
  c.hidden_size = 48;
  c.intermediate_size = 80;
  c.layers = 1;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 12;
  c.vocab_size = 10;
  c.max_position = 64;
  c.qkv_bias = c.mlp_bias = true;
  return c;
}

class Exact : public ::testing::Test {
 protected:
  Exact() {
    std::mt19937 engine(3);
    std::normal_distribution<float> normal(0, 0.3f);
    const auto fill = [&](std::vector<float>& v, size_t n) {
      v.resize(n);
      for (float& x : v) x = normal(engine);
    };
    fill(states_, tokens() * 48);
    for (const LayerLinear& l : layer_linears(config(), 0)) {
      FloatWeight& w = layer_.at(l.kind);
      w.shape = l.shape;
      fill(w.w, w.shape.n * w.shape.k);
      if (w.shape.bias) fill(w.bias, w.shape.n);
    }
    for (Norm* n : {&layer_.norms[NormKind::kInput], &layer_.norms[NormKind::kPostAttention]}) {
      fill(n->weight, 48);
      n->eps = 1e-5f;
    }
  }
  static size_t tokens() { return 5 + 9; }

  std::vector<float> run(const FloatLayer& layer, const std::vector<float>& states) {
    ModelConfig widest = config();
    widest.intermediate_size = static_cast<int64_t>(layer.up().shape.n);
    ActivationMemory memory("", UINT64_MAX);
    StreamScratch scratch(widest, {5, 9}, memory);
    LayerStream stream(config(), {5, 9}, kernels::FloatType::kF32, scratch, memory, team_);
    stream.set_intermediate(layer.up().shape.n);
    std::copy(states.begin(), states.end(), stream.states());
    DecoderLayer d{.norms = layer.norms};
    for (const PartRow& row : part_rows()) d.part(row.part) = pack_float(layer.of(row.part), team_);
    stream.attention(d);
    stream.attention_output(d);
    stream.mlp(d);
    stream.mlp_output(d);
    return {stream.states(), stream.states() + tokens() * 48};
  }

  void expect_same(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    float top = 0;
    for (float v : a) top = std::max(top, std::fabs(v));
    for (size_t i = 0; i < a.size(); ++i) ASSERT_NEAR(a[i], b[i], 2e-5f * top) << i;
  }

  ThreadTeam team_{2};
  FloatLayer layer_;
  std::vector<float> states_;
};

TEST_F(Exact, FusedNormsAndRotations) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  for (const PartRow& row : part_rows())
    if (row.after_norm()) fuse_norm(row.part, config(), l);
  expect_same(want, run(l, states_));
  rotate_values(Rotation(12, 5), config(), l, team_);
  expect_same(want, run(l, states_));
  const Rotation r(48, 6);
  rotate_residual(r, l, team_);
  std::vector<float> states = states_, rotated = want;
  r.apply_rows(states.data(), tokens(), team_);
  r.apply_rows(rotated.data(), tokens(), team_);
  expect_same(rotated, run(l, states));
}

TEST_F(Exact, ScaledValuesAndUp) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> s(80);
  for (size_t i = 0; i < s.size(); ++i)
    s[i] = (i % 5 == 0 ? -1 : 1) * (0.5f + 0.1f * static_cast<float>(i % 13));
  std::vector<float> of_values(48);  // two query heads of 12 share a KV head
  for (size_t i = 0; i < 48; ++i) of_values[i] = s[i / 24 * 12 + i % 12];
  fuse(of_values, LayerPart::kO, config(), l);
  fuse(s, LayerPart::kDown, config(), l);
  EXPECT_NE(l.o().w, layer_.o().w);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, TurnedNorms) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> signs(48, 1.0f);
  for (size_t i = 0; i < signs.size(); i += 3) signs[i] = -1;
  for (const PartRow& row : part_rows())
    if (row.after_norm()) fuse(signs, row.part, config(), l);
  EXPECT_EQ(l.norms[NormKind::kInput].weight[3], -layer_.norms[NormKind::kInput].weight[3]);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, CenteredValues) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> center(24);
  for (size_t i = 0; i < center.size(); ++i) center[i] = 0.3f * static_cast<float>(i % 7) - 0.8f;
  center_values(center, config(), l);
  EXPECT_FLOAT_EQ(l.v().bias[3], layer_.v().bias[3] - center[3]);
  ASSERT_EQ(l.o().bias.size(), 48u);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, ScaledKeys) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> s(24);  // two KV heads of 12; channels i and i + 6 are rotated together
  for (size_t i = 0; i < s.size(); ++i) {
    const size_t pair = i / 12 * 6 + i % 6;
    s[i] = 0.5f + 0.3f * static_cast<float>(pair);
  }
  scale_keys(s, config(), l);
  EXPECT_FLOAT_EQ(l.k().bias[3], layer_.k().bias[3] / s[3]);
  expect_same(want, run(l, states_));
}

// Qwen3: norms of every head's queries and keys stand between the linears and rope, and take the
// scale, one for all heads.
TEST_F(Exact, ScaleKeysThroughTheirNorm) {
  std::mt19937 engine(9);
  std::uniform_real_distribution<float> around(0.5f, 2);
  for (const NormKind kind : {NormKind::kQuery, NormKind::kKey}) {
    Norm& norm = layer_.norms[kind];
    norm.eps = 1e-5f;
    for (size_t i = 0; i < 12; ++i) norm.weight.push_back(around(engine));
  }
  const std::vector<float> want = run(layer_, states_);
  std::vector<float> s(24);
  for (size_t i = 0; i < 6; ++i) {
    s[i] = around(engine);
    s[i + 6] = s[i + 12] = s[i + 18] = s[i];  // both channels of rope, both heads
  }
  FloatLayer l = layer_;
  scale_keys(s, config(), l);
  EXPECT_FLOAT_EQ(l.norms[NormKind::kKey].weight[3], layer_.norms[NormKind::kKey].weight[3] / s[3]);
  EXPECT_EQ(l.k().w, layer_.k().w);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, SplitChannels) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  ChannelSplit split;
  for (size_t i = 0; i < 80; ++i) {
    const size_t copies = i == 7 ? 5 : (i == 70 ? 2 : 1);
    for (size_t c = 0; c < copies; ++c) {
      split.source.push_back(i);
      split.share.push_back(i == 70 ? (c == 0 ? 0.3f : 0.7f) : 1.0f / static_cast<float>(copies));
    }
  }
  split_channels(split, l);
  EXPECT_EQ(l.down().shape.k, 85u);
  expect_same(want, run(l, states_));
}

struct Layer {
  ModelConfig config;
  FloatLayer weights;
};

// Two heads on one head of keys and values, head_dim 2, hidden 3, intermediate 2.
Layer small_layer() {
  Layer l;
  l.config.heads = 2;
  l.config.kv_heads = 1;
  l.config.head_dim = 2;
  l.weights.norms[NormKind::kInput].weight = {1, 3, -8};
  l.weights.norms[NormKind::kInput].bias = {2, 0, 4};
  l.weights.q() = weight(4, 3, std::vector<float>(12, 1));
  l.weights.k() = weight(2, 3, {1, 2, 3, 4, 5, 6});
  l.weights.v() = weight(2, 3, {1, 2, 3, 4, 5, 6});
  l.weights.v().bias = {8, 9};
  l.weights.o() = weight(1, 4, {1, 2, 3, 4});
  l.weights.up() = weight(2, 3, {2, 4, 6, 3, 6, 9});
  l.weights.down() = weight(1, 2, {5, 7});
  return l;
}

TEST(Fuse, MovesTheScaleFromTheNormIntoTheWeights) {
  Layer l = small_layer();
  fuse({2, 0.5f, 4}, LayerPart::kQkv, l.config, l.weights);
  EXPECT_EQ(l.weights.norms[NormKind::kInput].weight, (std::vector<float>{0.5f, 6, -2}));
  EXPECT_EQ(l.weights.norms[NormKind::kInput].bias, (std::vector<float>{1, 0, 1}));
  EXPECT_EQ(l.weights.k().w, (std::vector<float>{2, 1, 12, 8, 2.5f, 24}));
  EXPECT_EQ(l.weights.v().bias, (std::vector<float>{8, 9}));
}

TEST(Fuse, MovesTheScaleFromValuesIntoTheOutput) {
  Layer l = small_layer();
  const std::vector<float> scale = {2, 4, 2, 4};  // both heads read the one head of values
  fuse(scale, LayerPart::kO, l.config, l.weights);
  EXPECT_EQ(source_scale(scale, 2, l.config), (std::vector<float>{2, 4}));
  EXPECT_EQ(l.weights.o().w, (std::vector<float>{2, 8, 6, 16}));
  EXPECT_EQ(l.weights.v().w, (std::vector<float>{0.5f, 1, 1.5f, 1, 1.25f, 1.5f}));
  EXPECT_EQ(l.weights.v().bias, (std::vector<float>{4, 2.25f}));
}

TEST(Fuse, MovesTheScaleFromUpIntoDown) {
  Layer l = small_layer();
  fuse({2, 3}, LayerPart::kDown, l.config, l.weights);
  EXPECT_EQ(l.weights.down().w, (std::vector<float>{10, 21}));
  EXPECT_EQ(l.weights.up().w, (std::vector<float>{1, 2, 3, 1, 2, 3}));
}

TEST(Fuse, TurnsSigns) {
  Layer l = small_layer();
  fuse({-2, 3}, LayerPart::kDown, l.config, l.weights);
  EXPECT_EQ(l.weights.down().w, (std::vector<float>{-10, 21}));
  EXPECT_EQ(l.weights.up().w, (std::vector<float>{-1, -2, -3, 1, 2, 3}));
}

}  // namespace
}  // namespace octet
