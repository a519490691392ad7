// Plans of compressed-tensors, by docs/convert.md, and the tool's outputs through them and back.
#include <gmock/gmock.h>

#include <cmath>

#include "src/quant/relayout/relayout_testing.h"

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using tests::config_of;
using tests::halves;
using tests::is_planned;
using tests::kTinyDown;
using tests::kTinyGate;
using tests::kTinyK;
using tests::kTinyNorm;
using tests::kTinyO;
using tests::kTinyQ;
using tests::kTinyUp;
using tests::kTinyV;
using tests::planned;
using tests::planned_below;
using tests::TinyQuantized;
using tests::values_of;

class ToCompressed : public tests::RelayoutTest {
 protected:
  LayoutPlan plan_of(const TinyQuantized& model) {
    model.write(from(), Layout::kOctet);
    return plan_of_folder();
  }
  LayoutPlan plan_of_folder() {
    source_.emplace(from());
    return plan_compressed_tensors(*source_);
  }
  // The message of a refusal, which is for the user.
  std::string refusal() {
    try {
      plan_of_folder();
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
      EXPECT_THAT(e.what(), HasSubstr("compressed-tensors cannot hold this"));
      return e.what();
    }
    ADD_FAILURE() << "no error";
    return "";
  }
  std::string refusal_of(const TinyQuantized& model) {
    model.write(from(), Layout::kOctet);
    return refusal();
  }

  std::optional<QuantizedSource> source_;
};

TEST_F(ToCompressed, AStaticLinear) {
  TinyQuantized model("qwen2");
  model.make_static_q();
  model.set(kTinyQ + ".bias", DType::kF16, {2}, halves({1, -0.5f}));
  const LayoutPlan plan = plan_of(model);
  EXPECT_EQ(planned_below(plan, kTinyQ),
            (std::vector<std::string>{".weight", ".bias", ".weight_scale", ".input_scale",
                                      ".input_zero_point"}));
  EXPECT_EQ(values_of<int8_t>(planned(plan, kTinyQ + ".weight")),
            (std::vector<int8_t>{1, 2, 3, -8}));
  // As it is: rounded in units of deq_scale it is what quant_bias holds.
  EXPECT_EQ(planned(plan, kTinyQ + ".bias").spec.dtype, DType::kF16);
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyQ + ".bias")), halves({1, -0.5f}));
  EXPECT_EQ(planned(plan, kTinyQ + ".weight_scale").spec.dtype, DType::kF32);
  EXPECT_EQ(planned(plan, kTinyQ + ".weight_scale").spec.shape, (Shape{2, 1}));
  EXPECT_EQ(values_of<float>(planned(plan, kTinyQ + ".weight_scale")),
            (std::vector<float>{0.25f, 0.125f}));
  EXPECT_EQ(planned(plan, kTinyQ + ".input_scale").spec.dtype, DType::kF16);
  EXPECT_EQ(planned(plan, kTinyQ + ".input_scale").spec.shape, Shape{1});
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyQ + ".input_scale")), halves({0.5f}));
  EXPECT_EQ(planned(plan, kTinyQ + ".input_zero_point").spec.dtype, DType::kI8);
  EXPECT_EQ(planned(plan, kTinyQ + ".input_zero_point").spec.shape, Shape{1});
  EXPECT_EQ(values_of<int8_t>(planned(plan, kTinyQ + ".input_zero_point")),
            (std::vector<int8_t>{3}));
  EXPECT_EQ(planned_below(plan, kTinyO), (std::vector<std::string>{".weight"}));  // in float
  EXPECT_THAT(plan.notes, IsEmpty());
  EXPECT_EQ(plan.stem, "model");
  EXPECT_EQ(plan.description_name, "");
}

TEST_F(ToCompressed, TheDictionary) {
  TinyQuantized model;
  model.make_static(kTinyQ, {1, 2, 3, -8}, 0.5f, -7, {0.125f, 0.0625f}, {21, -35});
  ordered_json config = config_of(plan_of(model));
  EXPECT_FALSE(config.contains("quantize"));
  const ordered_json weights = {{"num_bits", 8},
                                {"type", "int"},
                                {"symmetric", true},
                                {"strategy", "channel"},
                                {"dynamic", false}};
  ordered_json inputs = weights;
  inputs["symmetric"] = false;
  inputs["strategy"] = "tensor";
  ordered_json group = {{"targets", {"Linear"}},
                        {"weights", weights},
                        {"input_activations", inputs},
                        {"output_activations", nullptr}};
  const ordered_json want = {
      {"quant_method", "compressed-tensors"},
      {"format", "int-quantized"},
      {"quantization_status", "compressed"},
      {"config_groups", {{"group_0", group}}},
      {"ignore", {kTinyK, kTinyV, kTinyO, kTinyGate, kTinyUp, kTinyDown, "lm_head"}},
      {"kv_cache_scheme", nullptr}};
  EXPECT_EQ(config.at("quantization_config").dump(1), want.dump(1));

  // Beside a linear with a scale per token every group names its own.
  model.make_dynamic(kTinyDown, std::vector<int8_t>(8, 1), {1, 1});
  const LayoutPlan plan = plan_of(model);
  EXPECT_EQ(planned_below(plan, kTinyDown), (std::vector<std::string>{".weight", ".weight_scale"}));
  const ordered_json both = config_of(plan).at("quantization_config");
  group["targets"] = {kTinyQ};
  EXPECT_EQ(both.at("config_groups").at("group_0").dump(), group.dump());
  inputs["symmetric"] = true;
  inputs["strategy"] = "token";
  inputs["dynamic"] = true;
  group["targets"] = {kTinyDown};
  group["input_activations"] = inputs;
  EXPECT_EQ(both.at("config_groups").at("group_1").dump(), group.dump());
  EXPECT_EQ(both.at("ignore").size(), 6u);
}

TEST_F(ToCompressed, ZeroPointsUnlessAllAreZero) {
  const auto symmetric = [](const LayoutPlan& plan) {
    return config_of(plan)
        .at("quantization_config")
        .at("config_groups")
        .at("group_0")
        .at("input_activations")
        .at("symmetric")
        .get<bool>();
  };
  TinyQuantized model;
  model.make_static(kTinyQ, {1, 2, 3, -8}, 0.5f, 0, {0.125f, 0.0625f}, {0, 0});
  const LayoutPlan without = plan_of(model);
  EXPECT_TRUE(symmetric(without));
  EXPECT_FALSE(is_planned(without, kTinyQ + ".input_zero_point"));
  model.make_static(kTinyO, {1, 2, 3, -8}, 0.5f, -128, {0.125f, 0.0625f}, {384, -640});
  const LayoutPlan with = plan_of(model);
  EXPECT_FALSE(symmetric(with));
  EXPECT_EQ(values_of<int8_t>(planned(with, kTinyQ + ".input_zero_point")),
            (std::vector<int8_t>{0}));
  EXPECT_EQ(values_of<int8_t>(planned(with, kTinyO + ".input_zero_point")),
            (std::vector<int8_t>{-128}));
}

// A quant_bias that is not the rounded bias: corrected. (quant_bias + offset * row sum) *
// deq_scale.
TEST_F(ToCompressed, ACorrectedBiasOfTheModel) {
  TinyQuantized model("qwen2");
  model.make_static_q();
  model.set(kTinyQ + ".bias", DType::kF16, {2}, halves({1, -0.25f}));
  const LayoutPlan plan = plan_of(model);
  EXPECT_EQ(planned(plan, kTinyQ + ".bias").spec.dtype, DType::kF32);
  EXPECT_EQ(values_of<float>(planned(plan, kTinyQ + ".bias")),
            (std::vector<float>{8 * 0.125f, -8 * 0.0625f}));
  EXPECT_FALSE(is_planned(plan, kTinyO + ".bias"));
  EXPECT_EQ(config_of(plan).at("model_type"), "qwen2");
  EXPECT_THAT(plan.notes, IsEmpty());
}

// Up to 2^23 levels rne(bias / deq_scale) is the level again.
TEST_F(ToCompressed, CorrectedBiasesComeBackExactly) {
  const std::vector<float> deq = {0.0123457f, 3.33e-5f, 7.77e-4f, 0.9999999f};
  const std::vector<int32_t> levels = {(1 << 23) - 1, -((1 << 23) - 1), (1 << 23) - 3, 12345677};
  TinyQuantized model;
  model.make_static(kTinyUp, std::vector<int8_t>(8), 0.5f, 5, deq, levels);
  const LayoutPlan plan = plan_of(model);
  const auto bias = values_of<float>(planned(plan, kTinyUp + ".bias"));
  for (size_t j = 0; j < 3; ++j)
    EXPECT_EQ(std::nearbyint(double{bias[j]} / double{deq[j]}), levels[j]) << j;
  EXPECT_THAT(plan.notes,
              ElementsAre(HasSubstr("mlp_bias"), HasSubstr("1 biases have more than 23 bits")));
}

// One switch of LLaMA's for q, k, v and o, one for the MLP: linears beside get zeros.
TEST_F(ToCompressed, CorrectedBiasesOfLlama) {
  TinyQuantized model;
  model.make_static_q();
  const LayoutPlan plan = plan_of(model);
  EXPECT_EQ(values_of<float>(planned(plan, kTinyQ + ".bias")), (std::vector<float>{1, -0.5f}));
  for (const std::string& name : {kTinyK, kTinyV, kTinyO}) {
    EXPECT_EQ(planned(plan, name + ".bias").spec.dtype, DType::kF16) << name;
    EXPECT_EQ(values_of<uint16_t>(planned(plan, name + ".bias")), halves({0, 0}));
  }
  for (const std::string& name : {kTinyGate, kTinyUp, kTinyDown})
    EXPECT_FALSE(is_planned(plan, name + ".bias")) << name;
  EXPECT_EQ(config_of(plan).at("attention_bias"), true);
  EXPECT_FALSE(config_of(plan).contains("mlp_bias"));
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("config.json has attention_bias true")));

  model.make_static(kTinyDown, std::vector<int8_t>(8), 0.5f, 3, {0.5f, 0.25f}, {0, 4});
  const LayoutPlan both = plan_of(model);
  EXPECT_EQ(values_of<float>(planned(both, kTinyDown + ".bias")), (std::vector<float>{0, 1}));
  EXPECT_EQ(values_of<uint16_t>(planned(both, kTinyGate + ".bias")), halves({0, 0, 0, 0}));
  EXPECT_EQ(config_of(both).at("mlp_bias"), true);
  EXPECT_THAT(both.notes, ElementsAre(HasSubstr("attention_bias and mlp_bias")));
}

TEST_F(ToCompressed, NoCorrectionsNoBiases) {
  TinyQuantized model;
  model.make_rest_static();
  model.make_static(kTinyQ, {1, 2, 3, -8}, 0.5f, 3, {0.125f, 0.0625f}, {-9, 15});
  const LayoutPlan plan = plan_of(model);
  for (const PlannedTensor& t : plan.tensors)
    EXPECT_FALSE(t.spec.name.ends_with(".bias")) << t.spec.name;
  EXPECT_EQ(config_of(plan).at("attention_bias"), false);
  EXPECT_THAT(plan.notes, IsEmpty());
}

// The class has no biases, but loaders of Ascend's layouts compute with quant_bias: the one that is
// in there must stay, also where the file has it in float.
TEST_F(ToCompressed, AStoredBiasThatTheClassDoesNotHave) {
  TinyQuantized model;
  model.make_static_q();
  model.set(kTinyQ + ".bias", DType::kF16, {2}, halves({1, -0.5f}));
  model.set(kTinyK + ".bias", DType::kF16, {2}, halves({5, 5}));  // of a float linear: nobody's
  const LayoutPlan plan = plan_of(model);
  ASSERT_TRUE(is_planned(plan, kTinyQ + ".bias"));
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyQ + ".bias")), halves({1, -0.5f}));
  EXPECT_EQ(config_of(plan).at("attention_bias"), true);
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyK + ".bias")), halves({0, 0}));
}

// Qwen2's classes have biases of q, k and v only; LLaMA's compute the same and have all.
TEST_F(ToCompressed, CorrectedBiasesOfQwen2) {
  TinyQuantized model("qwen2");
  model.config["architectures"] = {"Qwen2ForCausalLM"};
  model.config["use_sliding_window"] = false;
  model.config["sliding_window"] = 4096;
  model.config["max_window_layers"] = 1;
  model.make_static(kTinyO, {1, 2, 3, -8}, 0.5f, 0, {0.125f, 0.0625f}, {8, -8});
  const LayoutPlan plan = plan_of(model);
  ordered_json config = config_of(plan);
  EXPECT_EQ(config.at("architectures").dump(), R"(["LlamaForCausalLM"])");
  EXPECT_EQ(config.at("model_type"), "llama");
  EXPECT_EQ(config.at("attention_bias"), true);
  EXPECT_EQ(config.at("mlp_bias"), false);
  for (const char* key : {"use_sliding_window", "sliding_window", "max_window_layers"})
    EXPECT_FALSE(config.contains(key)) << key;
  EXPECT_EQ(values_of<float>(planned(plan, kTinyO + ".bias")), (std::vector<float>{1, -0.5f}));
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyV + ".bias")), halves({0.5f, 0.5f}));
  EXPECT_FALSE(is_planned(plan, kTinyDown + ".bias"));
  EXPECT_THAT(plan.notes, ElementsAre(HasSubstr("written as LlamaForCausalLM")));

  // Of the MLP alone: o has a bias by the same switch as q, k and v, zeros then.
  TinyQuantized mlp("qwen2");
  mlp.make_static(kTinyDown, std::vector<int8_t>(8), 0.5f, 3, {0.5f, 0.25f}, {0, 4});
  const LayoutPlan other = plan_of(mlp);
  config = config_of(other);
  EXPECT_EQ(config.at("model_type"), "llama");
  EXPECT_EQ(config.at("mlp_bias"), true);
  EXPECT_EQ(values_of<uint16_t>(planned(other, kTinyO + ".bias")), halves({0, 0}));
  EXPECT_EQ(values_of<uint16_t>(planned(other, kTinyUp + ".bias")), halves({0, 0, 0, 0}));
}

TEST_F(ToCompressed, CorrectedBiasesOfQwen3AreRefused) {
  for (const std::string& name : {kTinyQ, kTinyO}) {
    TinyQuantized model("qwen3");
    model.make_static(name, {1, 2, 3, -8}, 0.5f, 3, {0.125f, 0.0625f}, {-9, 15});
    EXPECT_THAT(plan_of(model).notes, IsEmpty());
    model.make_static(name, {1, 2, 3, -8}, 0.5f, 3, {0.125f, 0.0625f}, {-9, 16});
    EXPECT_THAT(refusal_of(model), HasSubstr("quant_bias holds corrections"));
  }
  TinyQuantized model("qwen3");
  model.make_static(kTinyDown, std::vector<int8_t>(8), 0.5f, 3, {0.5f, 0.25f}, {0, 4});
  EXPECT_THAT(refusal_of(model), HasSubstr("quant_bias holds corrections"));
}

TEST_F(ToCompressed, RefusesWhatItCannotHold) {
  const std::map<std::string, std::string> refused = {
      {"pdmix", "W8A8_MIX"},
      {"w8a16", "W8A16"},
      {"kv8", "a static int8 KV cache"},
      {"no_last_linear_rollback", "a quantized head, which vLLM does not load"}};
  for (const auto& [output, words] : refused) {
    for (const auto& entry : fs::directory_iterator(from())) fs::remove(entry.path());
    take_golden("llama_fp16", output);
    EXPECT_THAT(refusal(), HasSubstr(words));
  }
}

TEST_F(ToCompressed, NormsHaveNoBiases) {
  TinyQuantized model;
  model.make_rest_static();
  model.remove(kTinyNorm + ".weight");
  model.set_half(kTinyNorm + ".module.weight", {2});
  model.set(kTinyNorm + ".module.bias", DType::kF16, {2}, halves({0, -0.0f}));
  model.set(kTinyNorm + ".bias", DType::kF16, {2}, halves({0, 0}));
  const LayoutPlan plan = plan_of(model);
  EXPECT_EQ(planned_below(plan, kTinyNorm), (std::vector<std::string>{".weight"}));
  EXPECT_EQ(values_of<uint16_t>(planned(plan, kTinyNorm + ".weight")), halves({0.5f, 0.5f}));
  for (const char* end : {".bias", ".module.bias"}) {
    TinyQuantized other = model;
    other.set(kTinyNorm + end, DType::kF16, {2}, halves({0, 0x1p-24f}));
    EXPECT_THAT(refusal_of(other),
                ::testing::AllOf(HasSubstr("a norm with a bias"), HasSubstr(kTinyNorm + end)));
  }
}

TEST_F(ToCompressed, RefusesTensorsThatNoLoaderKnows) {
  TinyQuantized model;
  model.make_rest_static();
  model.set_half("model.layers.0.extra", {2});
  model.write(from(), Layout::kOctet);
  EXPECT_THAT(
      tests::message_of([&] { plan_of_folder(); }),
      ::testing::AllOf(HasSubstr("no place for this tensor"), HasSubstr("model.layers.0.extra")));
}

// The tool's outputs come back from compressed-tensors bit for bit, but for the quant_bias of
// biases: the tool rounds the whole of it in float32, where 2^23 levels have no half. Its largest
// here, a few thousand, leaves 2^-11 of a level: enough for a tie, not for more than one level.
TEST_F(ToCompressed, TheToolsOutputsThereAndBack) {
  for (const auto& [model, output] : std::vector<std::pair<std::string, std::string>>{
           {"llama_fp16", "minmax"}, {"llama_fp16", "w8a8_dynamic"}, {"qwen2_bf16", "minmax"}}) {
    const tests::TempFolder tool("relayout_tool"), there("relayout_there");
    tests::copy_quantized(tests::kGolden / model, output, tool);
    const QuantizedSource source(tool.path());
    tests::write_planned(plan_layout(source, Layout::kCompressedTensors), there.path());
    const QuantizedSource compressed(there.path());
    const LayoutPlan back = plan_layout(compressed, Layout::kMsmodelslim);
    ASSERT_EQ(back.tensors.size(), source.tensors().all().size());
    for (const TensorView* t : source.tensors().all()) {
      const PlannedTensor& made = planned(back, t->name);
      EXPECT_EQ(made.spec.dtype, t->dtype) << t->name;
      EXPECT_EQ(made.spec.shape, t->shape) << t->name;
      if (std::ranges::equal(made.make(), t->data)) continue;
      ASSERT_TRUE(model == "qwen2_bf16" && t->name.ends_with("quant_bias")) << t->name;
      const auto want = t->values<int32_t>(), got = values_of<int32_t>(made);
      for (size_t j = 0; j < want.size(); ++j) {
        EXPECT_LT(std::abs(want[j]), 1 << 16) << t->name;
        EXPECT_LE(std::abs(want[j] - got[j]), 1) << t->name;
      }
    }
  }
}

}  // namespace
}  // namespace octet
