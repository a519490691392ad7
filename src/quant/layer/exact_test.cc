// A layer computes the same after every exact change.
#include "src/quant/layer/exact.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "src/quant/layer/layer_stream.h"
#include "src/quant/layer/layer_testing.h"

namespace octet {
namespace {

using testing::weight;

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
    for (LinearKind kind : kLinearKinds) {
      FloatWeight& w = layer_.at(kind);
      w.shape = linear_shape(config(), kind);
      fill(w.w, w.shape.n * w.shape.k);
      if (w.shape.bias) fill(w.bias, w.shape.n);
    }
    for (Norm* n : {&layer_.input_norm, &layer_.post_norm}) {
      fill(n->weight, 48);
      n->eps = 1e-5f;
    }
  }
  static size_t tokens() { return 5 + 9; }

  std::vector<float> run(const FloatLayer& layer, const std::vector<float>& states) {
    ModelConfig widest = config();
    widest.intermediate_size = static_cast<int64_t>(layer.at(LinearKind::kUp).shape.n);
    ActivationMemory memory("", UINT64_MAX);
    StreamScratch scratch(widest, {5, 9}, memory);
    LayerStream stream(config(), {5, 9}, kernels::FloatType::kF32, scratch, memory, team_);
    stream.set_intermediate(layer.at(LinearKind::kUp).shape.n);
    std::copy(states.begin(), states.end(), stream.states());
    const auto pack = [&](std::initializer_list<LinearKind> kinds) {
      std::vector<const FloatWeight*> parts;
      for (LinearKind k : kinds) parts.push_back(&layer.at(k));
      return pack_float(parts, team_);
    };
    const DecoderLayer d{layer.input_norm,
                         layer.post_norm,
                         pack({LinearKind::kQ, LinearKind::kK, LinearKind::kV}),
                         pack({LinearKind::kO}),
                         pack({LinearKind::kGate, LinearKind::kUp}),
                         pack({LinearKind::kDown})};
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
  for (const InputGroup& group : input_groups())
    if (group.after_norm()) fuse_norm(group, config(), l);
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
  fuse(of_values, input_groups()[1], config(), l);
  fuse(s, input_groups()[3], config(), l);
  EXPECT_NE(l.at(LinearKind::kO).w, layer_.at(LinearKind::kO).w);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, TurnedNorms) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> signs(48, 1.0f);
  for (size_t i = 0; i < signs.size(); i += 3) signs[i] = -1;
  for (const InputGroup& group : input_groups())
    if (group.after_norm()) fuse(signs, group, config(), l);
  EXPECT_EQ(l.input_norm.weight[3], -layer_.input_norm.weight[3]);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, CenteredValues) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> center(24);
  for (size_t i = 0; i < center.size(); ++i) center[i] = 0.3f * static_cast<float>(i % 7) - 0.8f;
  center_values(center, config(), l);
  EXPECT_FLOAT_EQ(l.at(LinearKind::kV).bias[3], layer_.at(LinearKind::kV).bias[3] - center[3]);
  ASSERT_EQ(l.at(LinearKind::kO).bias.size(), 48u);
  expect_same(want, run(l, states_));
}

TEST_F(Exact, ScaledKeys) {
  const std::vector<float> want = run(layer_, states_);
  FloatLayer l = layer_;
  std::vector<float> s(24);  // two KV heads of 12; channels i and i + 6 turn together
  for (size_t i = 0; i < s.size(); ++i) s[i] = 0.5f + 0.3f * static_cast<float>(i / 12 * 6 + i % 6);
  scale_keys(s, config(), l);
  EXPECT_FLOAT_EQ(l.at(LinearKind::kK).bias[3], layer_.at(LinearKind::kK).bias[3] / s[3]);
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
  EXPECT_EQ(l.at(LinearKind::kDown).shape.k, 85u);
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
  l.weights.input_norm.weight = {1, 3, -8};
  l.weights.input_norm.bias = {2, 0, 4};
  l.weights.at(LinearKind::kQ) = weight(4, 3, std::vector<float>(12, 1));
  l.weights.at(LinearKind::kK) = weight(2, 3, {1, 2, 3, 4, 5, 6});
  l.weights.at(LinearKind::kV) = weight(2, 3, {1, 2, 3, 4, 5, 6});
  l.weights.at(LinearKind::kV).bias = {8, 9};
  l.weights.at(LinearKind::kO) = weight(1, 4, {1, 2, 3, 4});
  l.weights.at(LinearKind::kUp) = weight(2, 3, {2, 4, 6, 3, 6, 9});
  l.weights.at(LinearKind::kDown) = weight(1, 2, {5, 7});
  return l;
}

TEST(Fuse, MovesTheScaleFromTheNormIntoTheWeights) {
  Layer l = small_layer();
  fuse({2, 0.5f, 4}, input_groups()[0], l.config, l.weights);
  EXPECT_EQ(l.weights.input_norm.weight, (std::vector<float>{0.5f, 6, -2}));
  EXPECT_EQ(l.weights.input_norm.bias, (std::vector<float>{1, 0, 1}));
  EXPECT_EQ(l.weights.at(LinearKind::kK).w, (std::vector<float>{2, 1, 12, 8, 2.5f, 24}));
  EXPECT_EQ(l.weights.at(LinearKind::kV).bias, (std::vector<float>{8, 9}));
}

TEST(Fuse, MovesTheScaleFromValuesIntoTheOutput) {
  Layer l = small_layer();
  const std::vector<float> scale = {2, 4, 2, 4};  // both heads read the one head of values
  fuse(scale, input_groups()[1], l.config, l.weights);
  EXPECT_EQ(source_scale(scale, 2, l.config), (std::vector<float>{2, 4}));
  EXPECT_EQ(l.weights.at(LinearKind::kO).w, (std::vector<float>{2, 8, 6, 16}));
  EXPECT_EQ(l.weights.at(LinearKind::kV).w, (std::vector<float>{0.5f, 1, 1.5f, 1, 1.25f, 1.5f}));
  EXPECT_EQ(l.weights.at(LinearKind::kV).bias, (std::vector<float>{4, 2.25f}));
}

TEST(Fuse, MovesTheScaleFromUpIntoDown) {
  Layer l = small_layer();
  fuse({2, 3}, input_groups()[3], l.config, l.weights);
  EXPECT_EQ(l.weights.at(LinearKind::kDown).w, (std::vector<float>{10, 21}));
  EXPECT_EQ(l.weights.at(LinearKind::kUp).w, (std::vector<float>{1, 2, 3, 1, 2, 3}));
}

TEST(Fuse, TurnsSigns) {
  Layer l = small_layer();
  fuse({-2, 3}, input_groups()[3], l.config, l.weights);
  EXPECT_EQ(l.weights.at(LinearKind::kDown).w, (std::vector<float>{-10, 21}));
  EXPECT_EQ(l.weights.at(LinearKind::kUp).w, (std::vector<float>{-1, -2, -3, 1, 2, 3}));
}

}  // namespace
}  // namespace octet
