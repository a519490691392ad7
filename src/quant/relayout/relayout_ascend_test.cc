// Plans of the layouts of Ascend's tools: against outputs of the real tool, and against
// docs/formats.md.
#include <gmock/gmock.h>

#include "src/quant/relayout/relayout_testing.h"

namespace octet {
namespace {

using ::testing::HasSubstr;
using tests::config_of;
using tests::halves;
using tests::is_planned;
using tests::kTinyDown;
using tests::kTinyK;
using tests::kTinyNorm;
using tests::kTinyO;
using tests::kTinyQ;
using tests::kTinyV;
using tests::planned;
using tests::planned_below;
using tests::TinyQuantized;
using tests::values_of;

ordered_json read_description(const fs::path& file) {
  return parse_ordered_json(read_text(file), file.string());
}
ordered_json description_of(const LayoutPlan& plan) {
  return parse_ordered_json(plan.description, plan.description_name);
}

// The tool's folders in the tool's own layout: nothing of them changes.
using ToolOutput = std::pair<const char*, const char*>;
class AscendOfTheTool : public tests::RelayoutTest,
                        public ::testing::WithParamInterface<ToolOutput> {};

TEST_P(AscendOfTheTool, StaysAsItIs) {
  const auto [model, output] = GetParam();
  take_golden(model, output);
  const QuantizedSource source(from());
  const LayoutPlan plan = plan_layout(source, Layout::kMsmodelslim);
  tests::expect_planned(plan, from());
  EXPECT_EQ(plan.stem + ".safetensors", source.tensors().files()[0]->path().filename().string());
  EXPECT_FALSE(plan.metadata);
  EXPECT_EQ(description_of(plan).dump(),
            read_description(from() / "quant_model_description.json").dump());
  EXPECT_EQ(config_of(plan).dump(), source.config().raw.dump());
}

INSTANTIATE_TEST_SUITE_P(
    Outputs, AscendOfTheTool,
    ::testing::Values(ToolOutput{"llama_fp16", "minmax"}, ToolOutput{"llama_fp16", "m1"},
                      ToolOutput{"llama_fp16", "m6_fixed"}, ToolOutput{"llama_fp16", "kv8"},
                      ToolOutput{"llama_fp16", "w8a8_dynamic"}, ToolOutput{"llama_fp16", "pdmix"},
                      ToolOutput{"llama_fp16", "w8a16"}, ToolOutput{"llama_fp16", "w8a16_asym"},
                      ToolOutput{"llama_fp16", "minmax_down_disabled"},
                      ToolOutput{"llama_fp16", "no_last_linear_rollback"},
                      ToolOutput{"qwen2_bf16", "minmax"}, ToolOutput{"qwen2_bf16", "m1"},
                      ToolOutput{"qwen2_bf16", "w8a8_dynamic"}),
    [](const auto& m) { return std::string(m.param.first) + "_" + m.param.second; });

class ToAscend : public tests::RelayoutTest {
 protected:
  LayoutPlan plan_of(const TinyQuantized& model, Layout from_layout, Layout to_layout) {
    model.write(from(), from_layout);
    return plan_of_folder(to_layout);
  }
  LayoutPlan plan_of_folder(Layout to_layout) {
    source_.emplace(from());
    return plan_layout(*source_, to_layout);
  }
  std::string refusal_of(const TinyQuantized& model, Layout to_layout) {
    return tests::message_of([&] { plan_of(model, Layout::kOctet, to_layout); });
  }

  std::optional<QuantizedSource> source_;
};

// m1 in both of the tool's layouts: one becomes the other, bit for bit.
TEST_F(ToAscend, BetweenTheLayoutsOfTheTool) {
  take_golden("llama_fp16", "m1");
  tests::copy_quantized(tests::kGolden / "llama_fp16", "mindie_m1", to_);
  const LayoutPlan mindie = plan_of_folder(Layout::kMindie);
  tests::expect_planned(mindie, to());
  EXPECT_EQ(mindie.description_name, "quant_model_description_w8a8.json");
  EXPECT_EQ(description_of(mindie).dump(), read_description(to() / mindie.description_name).dump());
  const QuantizedSource back(to());
  const LayoutPlan plain = plan_layout(back, Layout::kMsmodelslim);
  tests::expect_planned(plain, from());
  EXPECT_EQ(description_of(plain).dump(),
            read_description(from() / "quant_model_description.json").dump());
}

// What the tool holds in float32 came from 16 bits, and goes back to the float model's bytes; the
// scales that it computed do not fit.
TEST_F(ToAscend, FloatsOfTheModelInItsOwnType) {
  take_golden("llama_fp16", "minmax_down_disabled");
  const TensorStore model(tests::kGolden / "llama_fp16/model");
  for (const Layout layout : {Layout::kOctet, Layout::kMsmodelslimV1}) {
    const LayoutPlan plan = plan_of_folder(layout);
    size_t compared = 0;
    for (const TensorView* t : model.all()) {
      const PlannedTensor& made = planned(plan, t->name);
      if (made.type != "FLOAT") continue;
      EXPECT_EQ(made.spec.dtype, DType::kF16) << t->name;
      EXPECT_TRUE(std::ranges::equal(made.make(), t->data)) << t->name;
      ++compared;
    }
    EXPECT_EQ(compared, 3u + 3 * 3);  // embedding, head, last norm; two norms and down of a layer
    const PlannedTensor& scale = planned(plan, "model.layers.1.self_attn.q_proj.input_scale");
    EXPECT_EQ(scale.spec.dtype, DType::kF32);
    EXPECT_EQ(planned(plan, "model.layers.1.self_attn.q_proj.input_offset").spec.dtype,
              DType::kF32);
    EXPECT_EQ(values_of<float>(scale),
              source_->tensors().get("model.layers.1.self_attn.q_proj.input_scale").floats());
  }
}

TEST_F(ToAscend, TensorsOfAStaticLinear) {
  TinyQuantized model;
  model.make_static_q();
  const std::vector<std::string> lean = {".weight", ".input_scale", ".input_offset", ".quant_bias",
                                         ".deq_scale"};
  const std::vector<std::string> full = {".weight",      ".weight_scale", ".weight_offset",
                                         ".input_scale", ".input_offset", ".quant_bias",
                                         ".deq_scale"};
  for (const Layout layout :
       {Layout::kOctet, Layout::kMsmodelslim, Layout::kMindie, Layout::kMsmodelslimV1}) {
    const bool v0 = layout == Layout::kMsmodelslim || layout == Layout::kMindie;
    const LayoutPlan plan = plan_of(model, Layout::kMsmodelslimV1, layout);
    EXPECT_EQ(planned_below(plan, kTinyQ), v0 ? full : lean) << layout_name(layout);
    for (const std::string& end : v0 ? full : lean)
      EXPECT_EQ(planned(plan, kTinyQ + end).type, "W8A8");
    EXPECT_EQ(values_of<int8_t>(planned(plan, kTinyQ + ".weight")),
              (std::vector<int8_t>{1, 2, 3, -8}));
    EXPECT_EQ(values_of<int32_t>(planned(plan, kTinyQ + ".quant_bias")),
              (std::vector<int32_t>{-1, 7}));
    const PlannedTensor& deq = planned(plan, kTinyQ + ".deq_scale");
    EXPECT_EQ(deq.spec.dtype, DType::kI64);
    EXPECT_EQ(values_of<int64_t>(deq), (std::vector<int64_t>{0x3e000000, 0x3d800000}));
    const PlannedTensor& scale = planned(plan, kTinyQ + ".input_scale");
    const PlannedTensor& offset = planned(plan, kTinyQ + ".input_offset");
    EXPECT_EQ(scale.spec.shape, Shape{1});
    EXPECT_EQ(offset.spec.shape, Shape{1});
    EXPECT_EQ(offset.spec.dtype, scale.spec.dtype);
    if (layout == Layout::kOctet) {
      EXPECT_EQ(scale.spec.dtype, DType::kF16);
      EXPECT_EQ(values_of<uint16_t>(scale), (std::vector<uint16_t>{0x3800}));   // 0.5
      EXPECT_EQ(values_of<uint16_t>(offset), (std::vector<uint16_t>{0x4200}));  // 3
    } else {
      EXPECT_EQ(scale.spec.dtype, DType::kF32);
      EXPECT_EQ(values_of<float>(scale), (std::vector<float>{0.5f}));
      EXPECT_EQ(values_of<float>(offset), (std::vector<float>{3}));
    }
    EXPECT_EQ(planned(plan, kTinyNorm + ".weight").spec.dtype, v0 ? DType::kF32 : DType::kF16);
    if (!v0) continue;
    const PlannedTensor& weight_scale = planned(plan, kTinyQ + ".weight_scale");
    EXPECT_EQ(weight_scale.spec.shape, (Shape{2, 1}));
    EXPECT_EQ(values_of<float>(weight_scale), (std::vector<float>{0.25f, 0.125f}));
    EXPECT_EQ(values_of<float>(planned(plan, kTinyQ + ".weight_offset")),
              (std::vector<float>{0, 0}));
  }
}

// By the table of docs/convert.md.
TEST_F(ToAscend, FromCompressedTensors) {
  TinyQuantized model("qwen2");
  model.config["torch_dtype"] = "bfloat16";
  model.make_compressed_static(kTinyQ, {1, 2, 3, -8}, {0.25f, 0.125f}, 0.5f, {3});
  model.set(kTinyQ + ".bias", DType::kF32, {2}, std::vector<float>{0.3125f, -0.3f});
  const LayoutPlan plan = plan_of(model, Layout::kCompressedTensors, Layout::kOctet);
  EXPECT_EQ(planned_below(plan, kTinyQ),
            (std::vector<std::string>{".weight", ".bias", ".input_scale", ".input_offset",
                                      ".quant_bias", ".deq_scale"}));
  // -0.3 is no bfloat16, so the bias stays what it is.
  EXPECT_EQ(planned(plan, kTinyQ + ".bias").type, "FLOAT");
  EXPECT_EQ(values_of<float>(planned(plan, kTinyQ + ".bias")),
            (std::vector<float>{0.3125f, -0.3f}));
  EXPECT_EQ(planned(plan, kTinyQ + ".input_scale").spec.dtype, DType::kBF16);
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyQ + ".input_offset")),
            (std::vector<uint16_t>{0x4040}));  // 3 in bfloat16
  // rne(0.3125 / 0.125) - 3 * 3, rne(-0.3 / 0.0625) - 3 * -5.
  EXPECT_EQ(values_of<int32_t>(planned(plan, kTinyQ + ".quant_bias")),
            (std::vector<int32_t>{-7, 10}));
  EXPECT_EQ(planned(plan, kTinyQ + ".deq_scale").spec.dtype, DType::kF32);  // of a bfloat16 model
  EXPECT_EQ(values_of<float>(planned(plan, kTinyQ + ".deq_scale")),
            (std::vector<float>{0.125f, 0.0625f}));
  const ordered_json config = config_of(plan);
  EXPECT_EQ(config.at("quantize"), "w8a8");
  EXPECT_FALSE(config.at("quantization_config").contains("quant_method"));
}

TEST_F(ToAscend, ScalesPerToken) {
  TinyQuantized model;
  model.make_dynamic(kTinyDown, {1, 2, 3, 4, 5, 6, 7, 8}, {0.25f, 0.125f});
  const LayoutPlan plan = plan_of(model, Layout::kOctet, Layout::kMsmodelslimV1);
  EXPECT_EQ(planned_below(plan, kTinyDown),
            (std::vector<std::string>{".weight", ".weight_scale", ".weight_offset"}));
  EXPECT_EQ(values_of<float>(planned(plan, kTinyDown + ".weight_scale")),
            (std::vector<float>{0.25f, 0.125f}));
  EXPECT_EQ(planned(plan, kTinyDown + ".weight_scale").type, "W8A8_DYNAMIC");
  EXPECT_EQ(description_of(plan).at("model_quant_type"), "W8A8_DYNAMIC");  // the highest type
}

TEST_F(ToAscend, DescriptionsAndConfigs) {
  TinyQuantized model;
  model.make_static_q();
  model.config.erase("torch_dtype");
  const LayoutPlan octet = plan_of(model, Layout::kMsmodelslim, Layout::kOctet);
  ordered_json config = config_of(octet);
  EXPECT_EQ(config.at("torch_dtype"), "float16");  // the embedding's
  EXPECT_EQ(config.at("quantize"), "w8a8");
  EXPECT_EQ(config.at("quantization_config").dump(), description_of(octet).dump());
  ordered_json description = description_of(octet);
  EXPECT_EQ(description.at("version"), "1.0.0");
  EXPECT_EQ(description.at("model_quant_type"), "W8A8");
  EXPECT_EQ(description.at(kTinyQ + ".deq_scale"), "W8A8");
  EXPECT_EQ(description.at(kTinyK + ".weight"), "FLOAT");
  EXPECT_EQ(description.size(), 2 + octet.tensors.size());

  const LayoutPlan mindie = plan_of(model, Layout::kMsmodelslim, Layout::kMindie);
  config = config_of(mindie);
  EXPECT_EQ(config.at("quantize"), "w8a8");
  EXPECT_EQ(config.at("quantization_config").dump(),
            R"({"group_size":0,"kv_quant_type":null,"fa_quant_type":null})");
  EXPECT_FALSE(description_of(mindie).contains("version"));

  const LayoutPlan v1 = plan_of(model, Layout::kMsmodelslim, Layout::kMsmodelslimV1);
  config = config_of(v1);
  EXPECT_FALSE(config.contains("quantize"));
  EXPECT_FALSE(config.contains("quantization_config"));
  std::vector<std::string> keys;
  description = description_of(v1);
  for (const auto& [key, value] : description.items()) keys.push_back(key);
  ASSERT_GT(keys.size(), 5u);
  EXPECT_EQ(std::vector<std::string>(keys.end() - 5, keys.end()),
            (std::vector<std::string>{"version", "model_quant_type", "metadata", "group_size",
                                      "optional"}));
}

// The older layout calls W8A8_MIX W8A8, and says in config.json that it is not.
TEST_F(ToAscend, MixInMindiesOlderLayout) {
  take_golden("llama_fp16", "pdmix");
  const LayoutPlan plan = plan_of_folder(Layout::kMindie);
  EXPECT_EQ(plan.stem, "quant_model_weight_w8a8");
  EXPECT_EQ(plan.description_name, "quant_model_description_w8a8.json");
  const std::string q = "model.layers.0.self_attn.q_proj";
  EXPECT_EQ(description_of(plan).at(q + ".weight_scale"), "W8A8");
  EXPECT_EQ(config_of(plan).at("quantization_config").at("pdmix"), true);
  tests::write_planned(plan, to());
  const QuantizedSource source(to());
  EXPECT_EQ(source.scheme(q), Scheme::kW8A8Mix);
  tests::expect_planned(plan_layout(source, Layout::kMsmodelslim), from());
}

TEST_F(ToAscend, ACacheInInt8) {
  take_golden("llama_fp16", "kv8");
  const LayoutPlan octet = plan_of_folder(Layout::kOctet);
  const std::string k = "model.layers.2.self_attn.k_proj.kv_cache_scale";
  EXPECT_EQ(planned(octet, k).type, "C8");
  EXPECT_EQ(values_of<float>(planned(octet, k)), source_->tensors().get(k).floats());
  EXPECT_EQ(description_of(octet).at("kv_cache_type"), "C8");
  EXPECT_EQ(description_of(octet).at("kv_quant_type"), "C8");
  const LayoutPlan mindie = plan_layout(*source_, Layout::kMindie);
  EXPECT_EQ(config_of(mindie).at("quantization_config").at("kv_quant_type"), "C8");
}

TEST_F(ToAscend, NormsUnderTheirOldNames) {
  TinyQuantized model;
  model.make_static_q();
  model.remove(kTinyNorm + ".weight");
  model.set_half(kTinyNorm + ".module.weight", {2});
  model.set(kTinyNorm + ".module.bias", DType::kF16, {2}, halves({1, 2}));
  const LayoutPlan plan = plan_of(model, Layout::kMsmodelslim, Layout::kOctet);
  EXPECT_EQ(planned_below(plan, kTinyNorm), (std::vector<std::string>{".weight", ".bias"}));
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyNorm + ".bias")), halves({1, 2}));
  const LayoutPlan mindie = plan_layout(*source_, Layout::kMindie);
  EXPECT_EQ(planned_below(mindie, kTinyNorm),
            (std::vector<std::string>{".weight", ".bias", ".module.weight", ".module.bias"}));
  EXPECT_EQ(planned(mindie, kTinyNorm + ".module.bias").type, "W8A8");
  EXPECT_EQ(values_of<float>(planned(mindie, kTinyNorm + ".module.bias")),
            (std::vector<float>{1, 2}));
  EXPECT_EQ(planned_below(mindie, "model.norm"), (std::vector<std::string>{".weight"}));
}

TEST_F(ToAscend, TiedHeads) {
  TinyQuantized model;
  model.make_static_q();
  model.config["tie_word_embeddings"] = true;
  model.remove("lm_head.weight");
  const LayoutPlan octet = plan_of(model, Layout::kOctet, Layout::kMsmodelslimV1);
  EXPECT_FALSE(is_planned(octet, "lm_head.weight"));
  EXPECT_EQ(description_of(octet).at("lm_head.weight"), "FLOAT");
  EXPECT_EQ(config_of(octet).at("tie_word_embeddings"), true);
  // The tool stores the head all the same.
  const LayoutPlan tool = plan_layout(*source_, Layout::kMsmodelslim);
  EXPECT_EQ(planned(tool, "lm_head.weight").spec.dtype, DType::kF32);
  EXPECT_EQ(values_of<float>(planned(tool, "lm_head.weight")), std::vector<float>(10, 0.5f));
  EXPECT_EQ(config_of(tool).at("tie_word_embeddings"), true);
  // One in int8 is no copy of the embedding.
  model.make_static("lm_head", std::vector<int8_t>(10, 1), 0.5f, 0, std::vector<float>(5, 1),
                    std::vector<int32_t>(5));
  const LayoutPlan untied = plan_of(model, Layout::kMsmodelslim, Layout::kOctet);
  EXPECT_EQ(planned(untied, "lm_head.weight").type, "W8A8");
  EXPECT_EQ(config_of(untied).at("tie_word_embeddings"), false);
}

// quant_bias holds the bias of a static linear; elsewhere one that the class lacks cannot stay.
TEST_F(ToAscend, BiasesThatTheArchitectureDoesNotHave) {
  TinyQuantized model;
  model.make_static_q();
  model.set(kTinyQ + ".bias", DType::kF32, {2}, std::vector<float>{1, -0.5f});
  model.set(kTinyV + ".bias", DType::kF32, {2}, std::vector<float>{0, -0.0f});
  model.make_dynamic(kTinyDown, std::vector<int8_t>(8, 1), {1, 1});
  model.set(kTinyDown + ".bias", DType::kF32, {2}, std::vector<float>(2));
  const LayoutPlan plan = plan_of(model, Layout::kOctet, Layout::kMsmodelslim);
  for (const std::string& name : {kTinyQ, kTinyV, kTinyDown})
    EXPECT_FALSE(is_planned(plan, name + ".bias")) << name;
  TinyQuantized other = model;
  other.set(kTinyV + ".bias", DType::kF32, {2}, std::vector<float>{0, 0.25f});
  EXPECT_THAT(refusal_of(other, Layout::kMsmodelslim),
              ::testing::AllOf(HasSubstr("a linear has a bias that its architecture does not"),
                               HasSubstr(kTinyV + ".bias")));
  other = model;
  other.set(kTinyDown + ".bias", DType::kF32, {2}, std::vector<float>{1, 0});
  EXPECT_THAT(refusal_of(other, Layout::kMsmodelslimV1), HasSubstr(kTinyDown + ".bias"));
}

TEST_F(ToAscend, RefusesTensorsThatNoLoaderKnows) {
  TinyQuantized model;
  model.make_static_q();
  model.set_half(kTinyO + ".extra", {2});
  EXPECT_THAT(
      refusal_of(model, Layout::kMsmodelslim),
      ::testing::AllOf(HasSubstr("no place for this tensor"), HasSubstr(kTinyO + ".extra")));
  model.remove(kTinyO + ".extra");
  model.remove("model.norm.weight");
  EXPECT_THAT(refusal_of(model, Layout::kMsmodelslim), HasSubstr("model.norm.weight"));
}

}  // namespace
}  // namespace octet
