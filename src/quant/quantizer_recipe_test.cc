// Whole models by a recipe: the folder is one that loaders take, and computes nearly what the float
// model does.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <functional>

#include "src/base/json.h"
#include "src/checkpoint/check.h"
#include "src/checkpoint/testing.h"
#include "src/model/transformer.h"
#include "src/model/weights.h"
#include "src/quant/quantizer.h"

namespace octet {
namespace {

using tests::kGolden;

std::vector<std::vector<int32_t>> tokens_of(const std::string& model) {
  const fs::path file = kGolden / model / "calib_tokens.json";
  return parse_json(read_text(file), file.string()).get<std::vector<std::vector<int32_t>>>();
}

std::vector<float> logits_of(const fs::path& model, const std::vector<int32_t>& ids,
                             ThreadTeam& team) {
  Transformer t(std::make_shared<const ModelFolder>(model), team, {.max_rows = ids.size()});
  KvCache cache(t.config(), blocks_for(ids.size()),
                kv_type(ModelFolder(model), kernels::FloatType::kF32));
  std::vector<int32_t> blocks;
  EXPECT_TRUE(cache.allocate(blocks_for(ids.size()), blocks));
  Batch batch;
  batch.add(ids, 0, blocks.data());
  for (size_t i = 0; i < ids.size(); ++i) batch.logit_rows.push_back(i);
  const auto logits = t.forward(batch, cache);
  return {logits.begin(), logits.end()};
}

double relative_error(const std::vector<float>& want, const std::vector<float>& got) {
  EXPECT_EQ(want.size(), got.size());
  double error = 0, signal = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(double{got[i]} - double{want[i]}, 2);
    signal += double{want[i]} * double{want[i]};
  }
  return std::sqrt(error / signal);
}

class Layerwise : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    target_ = fs::path(::testing::TempDir()) /
              (std::string("octet_layerwise_") + GetParam() + std::to_string(::getpid()));
    fs::remove_all(target_);
  }
  void TearDown() override { fs::remove_all(target_); }

  QuantizeSummary run(const std::function<void(QuantizeOptions&)>& change = {}) {
    QuantizeOptions o;
    o.take_recipe(load_recipe("octet"));
    o.run.quiet = true;
    o.run.overwrite = true;
    if (change) change(o);
    CalibrationData data;
    for (const auto& ids : tokens_of(GetParam())) data.samples.push_back({ids});
    return quantize(model(), target_, data, o);
  }
  fs::path model() const { return kGolden / GetParam() / "model"; }
  double error() {
    const std::vector<int32_t> ids = tokens_of(GetParam())[0];
    return relative_error(logits_of(model(), ids, team_), logits_of(target_, ids, team_));
  }
  void expect_good() {
    for (const Finding& f : check_folder(target_))
      if (f.severity == Severity::kError) ADD_FAILURE() << f.tensor << ": " << f.problem;
  }

  ThreadTeam team_{2};
  fs::path target_;
};

TEST_P(Layerwise, EveryLinearStatic) {
  const QuantizeSummary s =
      run([](QuantizeOptions& o) { o.layerwise()->get<ChooseTypes>().dynamic_budget = 0; });
  EXPECT_EQ(s.kept.size(), 1u);  // the head
  expect_good();
  const ModelFolder folder(target_);
  EXPECT_FALSE(folder.config().tie_word_embeddings);
  EXPECT_EQ(folder.config().intermediate_size % 64, 0);
  EXPECT_GT(folder.config().intermediate_size, 96);
  EXPECT_EQ(folder.description()->model_quant_type, "W8A8");
  const double by_recipe = error();
  run([](QuantizeOptions& o) {
    o.method = ToolMethod{};
    o.output.keep_float.names.emplace();
    o.tool().anti_method = AntiMethod::kM1;
  });
  EXPECT_LT(by_recipe, error());
}

TEST_P(Layerwise, TypesByBudget) {
  run([](QuantizeOptions& o) { o.layerwise()->get<ChooseTypes>().dynamic_budget = 3; });
  expect_good();
  size_t dynamic = 0;
  const ModelFolder folder(target_);
  for (const auto& [name, type] : folder.description()->types)
    dynamic += name.ends_with(".weight") && type == "W8A8_DYNAMIC";
  EXPECT_GT(dynamic, 0u);
  EXPECT_LE(dynamic, 3u);
  // The norms of Qwen3's heads here make scores of attention up to 1.75^2 as large.
  EXPECT_LT(error(), GetParam() == std::string("qwen3_bf16") ? 0.06 : 0.03);

  const QuantizeSummary s = run([](QuantizeOptions& o) {
    o.layerwise()->get<ChooseTypes>().dynamic_budget = 0;
    o.layerwise()->get<ChooseTypes>().float_budget = 21;  // all of them
  });
  EXPECT_EQ(s.kept.size(), 22u);
}

TEST_P(Layerwise, ExactChangesAloneChangeNothing) {
  // All in float: what is left is the rounding of changed weights to 16 bits, 2^-9 of each in bf16.
  run([](QuantizeOptions& o) { o.layerwise()->get<ChooseTypes>().float_budget = 21; });
  EXPECT_LT(error(), 0.01);
}

TEST_P(Layerwise, EachChangeByItselfLeavesTheLogits) {
  // In float32 and with every linear in float nothing else is there: float32 rounding is left. The
  // other steps change float linears only where they are exact on a layer (exact_test.cc).
  const octet::tests::TempFolder place("layerwise_exact");
  octet::tests::copy_in_float32(model(), place / "model");
  CalibrationData data;
  for (const auto& ids : tokens_of(GetParam())) data.samples.push_back({ids});
  for (const char* step : {"rotate_residual", "rotate_values", "equalize_mlp: {copies: 0.3}"}) {
    QuantizeOptions o;
    o.run.quiet = o.run.overwrite = true;
    o.take_recipe(parse_recipe(
        std::string("steps:\n  - choose_types: {float_budget: 21, dynamic_budget: 0}\n  - ") + step,
        step));
    quantize(place / "model", target_, data, o);
    const std::vector<int32_t> ids = tokens_of(GetParam())[0];
    EXPECT_LT(
        relative_error(logits_of(place / "model", ids, team_), logits_of(target_, ids, team_)),
        3e-6)
        << step;
  }
}

TEST_P(Layerwise, ChannelsBehindNormsChangeSigns) {
  run([](QuantizeOptions& o) { o.layerwise()->get<ChooseTypes>().dynamic_budget = 0; });
  const ModelFolder folder(target_);
  size_t negative = 0;
  const LayerNorms norms = load_norms(folder, 1);
  for (const NormKind kind : {NormKind::kInput, NormKind::kPostAttention}) {
    for (float v : norms[kind].weight) {
      EXPECT_EQ(std::fabs(v), 1.0f);
      negative += v < 0;
    }
  }
  const size_t channels = 2 * static_cast<size_t>(folder.config().hidden_size);
  EXPECT_GT(negative, channels / 4);
  EXPECT_LT(negative, channels * 3 / 4);
}

TEST_P(Layerwise, KeysAndValuesInInt8) {
  run([](QuantizeOptions& o) { o.layerwise()->get<ChooseTypes>().dynamic_budget = 0; });
  const double without = error();
  run([](QuantizeOptions& o) {
    o.layerwise()->get<ChooseTypes>().dynamic_budget = 0;
    o.layerwise()->get<QuantizeKvCache>();
    o.take_recipe(*o.layerwise());
  });
  expect_good();
  const ModelFolder folder(target_);
  EXPECT_EQ(folder.description()->types.at("model.layers.0.self_attn.k_proj.kv_cache_scale"), "C8");
  EXPECT_EQ(kv_type(folder, kernels::FloatType::kF32), kernels::FloatType::kI8);
  // Keys and values in 255 steps of each channel's range add less than linears in int8 cost.
  EXPECT_NE(error(), without);
  EXPECT_LT(error(), 1.4 * without);
}

TEST_P(Layerwise, TheWrittenRecipeMakesTheSameBytes) {
  const fs::path weights = target_ / "quant_model_weight_w8a8.safetensors";
  const auto nothing = [](QuantizeOptions&) {};
  const auto by_name = [](QuantizeOptions& o) {
    o.output.keep_float.names = linear_names(1, LayerPart::kDown);
    o.output.keep_float.last_linear = false;
  };
  const auto as_the_tool = [](QuantizeOptions& o) {
    o.take_recipe(load_recipe("mindie"));
    o.output.keep_float.model_type = "qwen2";
    o.output.keep_float.layer_count = 1;
  };
  for (const std::function<void(QuantizeOptions&)>& change :
       {std::function<void(QuantizeOptions&)>(nothing), {by_name}, {as_the_tool}}) {
    run(change);
    const std::string first = read_text(weights);
    const Recipe written = load_recipe((target_ / "octet_recipe.yaml").string());
    run([&](QuantizeOptions& o) {
      o.method = ToolMethod{};
      o.take_recipe(written);
    });
    EXPECT_TRUE(first == read_text(weights));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Layerwise,
                         ::testing::Values("llama_fp16", "qwen2_bf16", "qwen3_bf16"));

}  // namespace
}  // namespace octet
