// The float stream against a plain computation of the layer in double.
#include "src/quant/layerwise/exact_pass.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "src/base/output_folder.h"
#include "src/checkpoint/testing.h"
#include "src/quant/layerwise/exact_pass_testing.h"

namespace octet {
namespace {

using tests::LayerTrace;
using tests::plain_energy;
using tests::plain_error;
using tests::plain_mean;
using tests::plain_min_max;
using tests::plain_weights;
using tests::PlainError;
using tests::TraceRows;

// Small random models in float32: LLaMA, with biases of q, k and v (Qwen2), with norms of heads.
class ExactPassTest : public ::testing::TestWithParam<const char*> {
 protected:
  ExactPassTest() {
    tests::copy_in_float32(tests::kGolden / GetParam() / "model", place_ / "model");
    folder_.emplace(place_ / "model");
    model_.emplace(*folder_, RotationOptions{}, team_);
    CalibrationData data;
    for (const std::vector<int32_t>& text :
         std::vector<std::vector<int32_t>>{{3, 17, 4, 90, 11},
                                           {150, 7, 8, 33, 61, 2},
                                           {5, 5, 12, 77},
                                           {9, 140, 21, 6, 48, 30, 1}})
      data.samples.push_back({text});
    tokens_.emplace(data);
    const std::vector<float> embedded = model_->embed(tokens_->ids, DType::kF32);
    for (size_t t = 0; t < tokens_->size(); ++t)
      states_.emplace_back(embedded.begin() + static_cast<ptrdiff_t>(t * 64),
                           embedded.begin() + static_cast<ptrdiff_t>((t + 1) * 64));
  }

  const ModelConfig& config() const { return model_->config(); }
  // All linears of one type.
  LinearPlan plan(Scheme scheme) const {
    LinearPlan p;
    for (const NamedLinear& l : linears_of(config())) p.types[l.name] = scheme;
    return p;
  }
  static void set(LinearPlan& p, LayerPart part, Scheme scheme) {
    for (const std::string& name : linear_names(0, part)) p.types[name] = scheme;
  }
  // Runs `use` with a pass that stands before the first layer.
  void with_pass(const Recipe& recipe, const LinearPlan& p,
                 const std::function<void(ExactPass&)>& use) {
    const OutputFolder output(place_ / "out", true);
    Journal journal(output, {});
    ActivationMemory memory(output.partial(), UINT64_MAX);
    const std::unique_ptr<Communicator> alone = solo_communicator();
    ModelConfig widest = config();
    widest.intermediate_size += static_cast<int64_t>(p.mlp_copies);
    StreamScratch scratch(widest, tokens_->lengths, memory);
    auto stream = std::make_unique<LayerStream>(config(), tokens_->lengths,
                                                kernels::FloatType::kF32, scratch, memory, team_);
    const std::vector<float> embedded = model_->embed(tokens_->ids, DType::kF32);
    std::copy(embedded.begin(), embedded.end(), stream->states());
    ExactPass pass(*model_, recipe, *tokens_, p, std::move(stream),
                   {output.path(), journal, memory, nullptr, team_, *alone});
    use(pass);
  }
  PreparedLayer prepared(const Recipe& recipe, const LinearPlan& p) {
    PreparedLayer layer;
    with_pass(recipe, p, [&](ExactPass& pass) { layer = pass.prepare(0); });
    return layer;
  }
  LayerTrace trace(const FloatLayer& layer, const TraceRows& states) const {
    return tests::plain_layer(config(), layer, states, tokens_->lengths);
  }
  LayerTrace trace(const FloatLayer& layer) const { return trace(layer, states_); }
  std::vector<double> ones() const { return std::vector<double>(tokens_->size(), 1.0); }

  // Equal up to `tolerance` of the largest value. Sums of up to 128 float32 products, two linears
  // deep, err by a few times sqrt(128) 2^-24 = 7e-7.
  template <typename T>
  static void expect_near(const std::vector<double>& want, const std::vector<T>& got,
                          double tolerance = 1e-5) {
    ASSERT_EQ(want.size(), got.size());
    double top = 0;
    for (double v : want) top = std::max(top, std::fabs(v));
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(want[i], static_cast<double>(got[i]), tolerance * top) << i;
  }
  static std::vector<double> flat(const TraceRows& rows) {
    std::vector<double> all;
    for (const auto& row : rows) all.insert(all.end(), row.begin(), row.end());
    return all;
  }
  static void expect_same_weights(const FloatLayer& a, const FloatLayer& b, LinearKind kind) {
    EXPECT_EQ(a.at(kind).w, b.at(kind).w);
    EXPECT_EQ(a.at(kind).bias, b.at(kind).bias);
  }

  ThreadTeam team_{2};
  tests::TempFolder place_{"exact_pass"};
  std::optional<ModelFolder> folder_;
  std::optional<FloatModel> model_;
  std::optional<CalibrationTokens> tokens_;
  TraceRows states_;  // embedded
};

TEST_P(ExactPassTest, AnEmptyRecipeShowsTheFloatLayer) {
  with_pass({}, plan(Scheme::kW8A8), [&](ExactPass& pass) {
    TraceRows states = states_;
    for (const int64_t index : {0, 1}) {
      const PreparedLayer work = pass.prepare(index);
      const FloatLayer want = model_->layer(index);
      for (const LinearRow& row : linear_rows()) expect_same_weights(work.weights, want, row.kind);
      for (const NormRow& row : norm_rows())
        EXPECT_EQ(work.weights.norms[row.kind].weight, want.norms[row.kind].weight);
      EXPECT_FALSE(work.o_params || work.down_params || work.kv);
      const LayerTrace r = trace(want, states);
      const std::vector<double> o = plain_weights(r.after_attention),
                                down = plain_weights(r.after_mlp);
      expect_near(plain_mean(r.qkv_input, ones()), work.qkv_input);
      expect_near(o, work.o_weight);
      expect_near(plain_mean(r.after_attention, o), work.after_attention);
      expect_near(plain_mean(r.gate_up_input, ones()), work.gate_up_input);
      expect_near(down, work.down_weight);
      expect_near(plain_mean(r.after_mlp, down), work.after_mlp);
      const float* got = pass.stream().states();
      expect_near(flat(r.after_mlp), std::vector<float>(got, got + tokens_->size() * 64));
      states = r.after_mlp;
    }
  });
}

// With all steps, for either kind of scales: the layer computes what it did. Weights are rounded to
// float32 up to three times on the way, 2e-7 of each.
TEST_P(ExactPassTest, ExactChangesKeepTheFunction) {
  Recipe recipe;
  recipe.get<FlipNormSigns>();
  recipe.get<EqualizeValues>();
  recipe.get<EqualizeMlp>();
  const FloatLayer before = model_->layer(0);
  const LayerTrace want = trace(before);
  for (const Scheme scheme : {Scheme::kW8A8, Scheme::kW8A8Dynamic}) {
    LinearPlan p = plan(scheme);
    p.mlp_copies = 32;
    const PreparedLayer work = prepared(recipe, p);
    EXPECT_EQ(work.weights.up().shape.n, 96u + 32);
    EXPECT_EQ(work.weights.down().shape.k, 96u + 32);
    EXPECT_NE(work.weights.v().w, before.v().w);
    EXPECT_NE(work.weights.o().w, before.o().w);
    EXPECT_EQ(work.o_params.has_value(), is_static(scheme));
    EXPECT_EQ(work.down_params.has_value(), is_static(scheme));
    const LayerTrace got = trace(work.weights);
    expect_near(flat(want.after_attention), flat(got.after_attention));
    expect_near(flat(want.after_mlp), flat(got.after_mlp));
    // What was seen is the float model's, whatever becomes of the weights.
    expect_near(plain_mean(want.after_mlp, plain_weights(want.after_mlp)), work.after_mlp);
  }
}

TEST_P(ExactPassTest, SignsTurnInStaticPartsOnly) {
  Recipe recipe;
  recipe.get<FlipNormSigns>();
  LinearPlan p = plan(Scheme::kW8A8);
  set(p, LayerPart::kGateUp, Scheme::kW8A8Dynamic);
  const PreparedLayer work = prepared(recipe, p);
  const FloatLayer before = model_->layer(0);
  const LayerTrace r = trace(before);
  const std::vector<double> mean = plain_mean(r.qkv_input, ones());
  expect_near(plain_mean(r.gate_up_input, ones()), work.gate_up_input);
  expect_same_weights(work.weights, before, LinearKind::kGate);
  expect_same_weights(work.weights, before, LinearKind::kUp);
  EXPECT_EQ(work.weights.norms[NormKind::kPostAttention].weight,
            before.norms[NormKind::kPostAttention].weight);
  size_t turned = 0;
  for (size_t i = 0; i < 64; ++i) {
    const float sign = mean[i] < 0 ? -1 : 1;
    turned += mean[i] < 0;
    EXPECT_NEAR(work.qkv_input[i], std::fabs(mean[i]), 1e-5);
    EXPECT_EQ(work.weights.norms[NormKind::kInput].weight[i],
              sign * before.norms[NormKind::kInput].weight[i]);
    for (size_t j = 0; j < work.weights.v().shape.n; ++j)
      EXPECT_EQ(work.weights.v().w[j * 64 + i], sign * before.v().w[j * 64 + i]);
  }
  EXPECT_GT(turned, 8u);
  EXPECT_LT(turned, 56u);
}

// o and down are scaled where their type gains by it; only copies, which every layer has, change a
// down_proj in float. Values are centred where quant_bias of both v and o takes the biases up.
TEST_P(ExactPassTest, WhatTheTypesDecide) {
  Recipe recipe;
  recipe.get<EqualizeValues>();
  recipe.get<EqualizeMlp>();
  const FloatLayer before = model_->layer(0);
  const PreparedLayer in_float = prepared(recipe, plan(Scheme::kFloat));
  for (const LinearRow& row : linear_rows())
    expect_same_weights(in_float.weights, before, row.kind);
  EXPECT_FALSE(in_float.o_params || in_float.down_params);
  LinearPlan p = plan(Scheme::kFloat);
  p.mlp_copies = 16;
  const PreparedLayer wider = prepared(recipe, p);
  EXPECT_EQ(wider.weights.down().shape.k, 96u + 16);
  EXPECT_FALSE(wider.down_params);

  p = plan(Scheme::kW8A8);
  const PreparedLayer centred = prepared(recipe, p);
  EXPECT_EQ(centred.weights.o().bias.size(), 64u);
  EXPECT_EQ(centred.weights.v().bias.size(), before.v().shape.n);
  set(p, LayerPart::kQkv, Scheme::kW8A8Dynamic);
  const PreparedLayer only_o = prepared(recipe, p);
  EXPECT_TRUE(only_o.o_params);
  EXPECT_NE(only_o.weights.o().w, before.o().w);
  EXPECT_EQ(only_o.weights.v().bias.empty(), before.v().bias.empty());
  EXPECT_EQ(only_o.weights.o().bias, before.o().bias);
}

TEST_P(ExactPassTest, ScalesOfAnInt8Cache) {
  const FloatLayer before = model_->layer(0);
  const auto largest = [](const TraceRows& rows) {
    std::vector<double> top(rows[0].size());
    for (const auto& row : rows)
      for (size_t i = 0; i < top.size(); ++i) top[i] = std::max(top[i], std::fabs(row[i]) / 127);
    return top;
  };
  LinearPlan p = plan(Scheme::kW8A8);
  EXPECT_FALSE(prepared({}, p).kv);
  p.kv_cache = true;
  const PreparedLayer plain = prepared({}, p);
  ASSERT_TRUE(plain.kv);
  const LayerTrace r = trace(before);
  expect_near(largest(r.keys), plain.kv->k);
  expect_near(largest(r.values), plain.kv->v);
  // Of values that are scaled and centred: what the changed v_proj computes.
  Recipe recipe;
  recipe.get<EqualizeValues>();
  const PreparedLayer scaled = prepared(recipe, p);
  ASSERT_TRUE(scaled.kv);
  expect_near(largest(r.keys), scaled.kv->k);
  const LayerTrace changed = trace(scaled.weights);
  expect_near(largest(changed.values), scaled.kv->v);
  EXPECT_NE(scaled.kv->v, plain.kv->v);
}

// The error of a group's input, by the range of all inputs and per token, as a share of the stream:
// that of q/k/v and gate/up is in proportion to what the block adds; that of o and down adds to the
// stream directly. A value near the middle between two levels, which float32 rounds the other way,
// errs by half a step either way; the squares of errors, of a 400th of the values on average, move
// by 2 * 400 times float32's error of the values, a few 1e-7.
TEST_P(ExactPassTest, CostsOfTypes) {
  for (const bool turned : {false, true}) {
    Recipe recipe;
    recipe.get<FindRanges>().fit.method = RangeMethod::kMinMax;
    if (turned) recipe.get<FlipNormSigns>();
    with_pass(recipe, plan(Scheme::kW8A8), [&](ExactPass& pass) {
      TraceRows states = states_;
      for (const int64_t index : {0, 1}) {
        const std::vector<GroupCost> costs = pass.measure(index);
        ASSERT_EQ(costs.size(), 4u);
        const FloatLayer l = model_->layer(index);
        const LayerTrace r = trace(l, states);
        const auto expect = [&](const GroupCost& cost, LayerPart part, TraceRows x,
                                const std::vector<double>& weight, const auto& factor) {
          if (turned && part_row(part).after_norm()) {
            const std::vector<double> mean = plain_mean(x, ones());
            for (auto& row : x)
              for (size_t i = 0; i < row.size(); ++i) row[i] *= mean[i] < 0 ? -1 : 1;
          }
          const PlainError fixed = plain_error(x, l.of(part), weight, plain_min_max(x));
          const PlainError per_token = plain_error(x, l.of(part), weight, {});
          const double f = factor(fixed.signal);
          EXPECT_NEAR(cost.fixed, fixed.error * f, 1e-3 * fixed.error * f);
          EXPECT_NEAR(cost.per_token, per_token.error * f, 1e-3 * per_token.error * f);
          EXPECT_EQ(cost.linears, linear_names(index, part));
          uint64_t elements = 0;
          for (const LayerLinear& linear : layer_linears(config(), index, part))
            elements += linear.shape.n * linear.shape.k;
          EXPECT_EQ(cost.bytes, elements);
        };
        const auto block = [&](size_t first, LayerPart outer, const TraceRows& outer_x,
                               LayerPart inner, const TraceRows& inner_x, const TraceRows& before,
                               const TraceRows& after) {
          const std::vector<double> weight = plain_weights(after);
          const double energy = plain_energy(after, weight);
          const double change = plain_energy(after, weight, &before) / energy;
          expect(costs[first], outer, outer_x, ones(),
                 [&](double signal) { return change / signal; });
          expect(costs[first + 1], inner, inner_x, weight, [&](double) { return 1 / energy; });
        };
        block(0, LayerPart::kQkv, r.qkv_input, LayerPart::kO, r.attended, states,
              r.after_attention);
        block(2, LayerPart::kGateUp, r.gate_up_input, LayerPart::kDown, r.activated,
              r.after_attention, r.after_mlp);
        states = r.after_mlp;
      }
    });
  }
}

// With the steps that change o and down the costs are those of the changed layer, whose inputs are
// rounded here. Static ones are counted on histograms and allow for longer tails, so they only have
// the size of it.
TEST_P(ExactPassTest, CostsOfChangedChannels) {
  Recipe recipe;
  recipe.get<EqualizeValues>();
  recipe.get<EqualizeMlp>();
  std::vector<GroupCost> costs;
  with_pass(recipe, plan(Scheme::kW8A8), [&](ExactPass& pass) { costs = pass.measure(0); });
  const LayerTrace r = trace(model_->layer(0));
  for (const Scheme scheme : {Scheme::kW8A8, Scheme::kW8A8Dynamic}) {
    const PreparedLayer work = prepared(recipe, plan(scheme));
    const LayerTrace changed = trace(work.weights);
    const std::vector<double> o = plain_weights(r.after_attention),
                              down = plain_weights(r.after_mlp);
    const double o_error =
        plain_error(changed.attended, work.weights.of(LayerPart::kO), o, work.o_params).error /
        plain_energy(r.after_attention, o);
    const double down_error =
        plain_error(changed.activated, work.weights.of(LayerPart::kDown), down, work.down_params)
            .error /
        plain_energy(r.after_mlp, down);
    if (is_static(scheme)) {
      EXPECT_GT(costs[1].fixed, 0.5 * o_error);
      EXPECT_LT(costs[1].fixed, 2 * o_error);
      EXPECT_GT(costs[3].fixed, 0.5 * down_error);
      EXPECT_LT(costs[3].fixed, 2 * down_error);
    } else {
      EXPECT_NEAR(costs[1].per_token, o_error, 1e-3 * o_error);
      EXPECT_NEAR(costs[3].per_token, down_error, 1e-3 * down_error);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Models, ExactPassTest,
                         ::testing::Values("llama_fp16", "qwen2_bf16", "qwen3_bf16"));

}  // namespace
}  // namespace octet
