// A layer computes the same after every exact change.
#include "src/quant/exact.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "src/quant/layer_stream.h"

namespace octet {
namespace {

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
  c.qkv_bias = true;
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
    LayerStream stream(config(), {5, 9}, team_);
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
  fuse_norm(l.input_norm, {&l.at(LinearKind::kQ), &l.at(LinearKind::kK), &l.at(LinearKind::kV)});
  fuse_norm(l.post_norm, {&l.at(LinearKind::kGate), &l.at(LinearKind::kUp)});
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
  for (size_t i = 0; i < s.size(); ++i) s[i] = 0.5f + 0.1f * static_cast<float>(i % 13);
  scale_values(std::span(s).first(24), config(), l);
  scale_up(s, l);
  EXPECT_NE(l.at(LinearKind::kO).w, layer_.at(LinearKind::kO).w);
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

}  // namespace
}  // namespace octet
