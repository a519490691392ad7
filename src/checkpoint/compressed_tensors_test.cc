#include "src/checkpoint/compressed_tensors.h"

#include <gmock/gmock.h>

#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::message_of;
using octet::tests::TempFolder;
using ::testing::HasSubstr;

ordered_json arguments(const char* strategy, bool symmetric, bool dynamic) {
  return {{"num_bits", 8},
          {"type", "int"},
          {"symmetric", symmetric},
          {"strategy", strategy},
          {"dynamic", dynamic}};
}

ordered_json group(const ordered_json& targets, const ordered_json& inputs) {
  return {{"targets", targets},
          {"weights", arguments("channel", true, false)},
          {"input_activations", inputs}};
}

const std::string kQ = "model.layers.0.self_attn.q_proj", kK = "model.layers.0.self_attn.k_proj",
                  kV = "model.layers.0.self_attn.v_proj", kUp = "model.layers.0.mlp.up_proj";

// A layer of which q is static, k per token, and v in float.
class CompressedTensors : public ::testing::Test {
 protected:
  CompressedTensors()
      : dir_(std::string("compressed_") +
             ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    config_ = {{"model_type", "llama"},    {"hidden_size", 2},         {"intermediate_size", 4},
               {"num_hidden_layers", 1},   {"num_attention_heads", 1}, {"vocab_size", 5},
               {"torch_dtype", "bfloat16"}};
    dictionary() = {{"quant_method", "compressed-tensors"},
                    {"format", "int-quantized"},
                    {"config_groups",
                     {{"group_0", group({kQ}, arguments("tensor", false, false))},
                      {"group_1", group({kK}, arguments("token", true, true))}}},
                    {"ignore", {"lm_head", kV}}};
    add(kQ + ".weight", DType::kI8, {2, 2}, std::vector<int8_t>{1, 2, 3, -8});
    add(kQ + ".weight_scale", DType::kF32, {2, 1}, std::vector<float>{0.5f, 0.25f});
    add(kQ + ".input_scale", DType::kF32, {1}, std::vector<float>{0.125f});
    add(kQ + ".input_zero_point", DType::kI8, {1}, std::vector<int8_t>{-7});
    add(kK + ".weight", DType::kI8, {2, 2}, std::vector<int8_t>(4));
    add(kK + ".weight_scale", DType::kF32, {1}, std::vector<float>{0.75f});
    add(kV + ".weight", DType::kF32, {2, 2}, std::vector<float>(4));
    add(kV + ".bias", DType::kF32, {2}, std::vector<float>(2));
  }

  ordered_json& dictionary() { return config_["quantization_config"]; }
  template <typename T>
  void add(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    tensors_[name] = {{name, dtype, shape}, {bytes.begin(), bytes.end()}};
  }
  ModelFolder folder() {
    write_text(dir_ / "config.json", config_.dump());
    std::vector<TensorSpec> specs;
    for (const auto& [name, tensor] : tensors_) specs.push_back(tensor.first);
    SafetensorsWriter w(dir_.path(), specs, {"model", 0, true});
    for (const auto& [name, tensor] : tensors_)
      w.write(name, std::span<const std::byte>(tensor.second));
    w.finish();
    return ModelFolder(dir_.path());
  }
  std::string refusal() {
    return message_of([&] { folder(); });
  }

  TempFolder dir_;
  ordered_json config_;
  std::map<std::string, std::pair<TensorSpec, std::vector<std::byte>>> tensors_;
};

TEST_F(CompressedTensors, TypesOfItsTensors) {
  const ModelFolder f = folder();
  EXPECT_TRUE(f.compressed_tensors());
  EXPECT_FALSE(f.ascend());
  EXPECT_EQ(f.type_words(), "W8A8, compressed-tensors");
  EXPECT_EQ(f.scheme(kQ), Scheme::kW8A8);
  EXPECT_EQ(f.scheme(kK), Scheme::kW8A8Dynamic);
  EXPECT_EQ(f.scheme(kV), Scheme::kFloat);
  EXPECT_EQ(f.scheme(kUp), Scheme::kFloat);
  EXPECT_EQ(f.scheme("lm_head"), Scheme::kFloat);
  const auto& types = f.description()->types;
  EXPECT_EQ(types.at(kQ + ".input_zero_point"), "W8A8");
  EXPECT_EQ(types.at(kK + ".weight_scale"), "W8A8_DYNAMIC");
  EXPECT_EQ(types.at(kV + ".bias"), "FLOAT");
}

TEST_F(CompressedTensors, UnderTheOldNameOfTheirDictionary) {
  config_["compression_config"] = config_["quantization_config"];
  config_.erase("quantization_config");
  EXPECT_EQ(folder().scheme(kQ), Scheme::kW8A8);
}

TEST_F(CompressedTensors, TheirNumbers) {
  const ModelFolder f = folder();
  const InputQuant input = input_quant(f, kQ);
  EXPECT_EQ(input.scale, 0.125f);
  EXPECT_EQ(input.offset, -7);
  EXPECT_EQ(weight_scales(f, kQ, 2), (std::vector<float>{0.5f, 0.25f}));
  EXPECT_EQ(weight_scales(f, kK, 2), (std::vector<float>{0.75f, 0.75f}));  // one for all outputs
  EXPECT_EQ(row_sums(f.tensors().get(kQ + ".weight")), (std::vector<int64_t>{3, -5}));
}

// Where targets are classes or patterns, a linear with an input scale is static.
TEST_F(CompressedTensors, TargetsThatAreNoNames) {
  for (const char* key : {"group_0", "group_1"})
    dictionary()["config_groups"][key]["targets"] = {"re:.*proj"};
  const ModelFolder f = folder();
  EXPECT_EQ(f.scheme(kQ), Scheme::kW8A8);
  EXPECT_EQ(f.scheme(kK), Scheme::kW8A8Dynamic);
}

// With one kind of inputs only, what is missing is missing.
TEST_F(CompressedTensors, OneGroupDecidesForAll) {
  dictionary()["config_groups"].erase("group_1");
  dictionary()["config_groups"]["group_0"]["targets"] = {"Linear"};
  EXPECT_THAT(refusal(), HasSubstr(kK + ".input_zero_point"));
  dictionary()["config_groups"]["group_0"]["input_activations"]["symmetric"] = true;
  const ModelFolder f = folder();
  EXPECT_EQ(f.scheme(kK), Scheme::kW8A8);
  EXPECT_THAT(message_of([&] { expect_quant_tensors(f, kK, quant_tensors(f, Scheme::kW8A8), 2); }),
              HasSubstr(kK + ".input_scale"));
}

TEST_F(CompressedTensors, WhatIsIgnoredIsFloat) {
  dictionary()["ignore"].push_back(kQ);
  EXPECT_EQ(folder().scheme(kQ), Scheme::kFloat);
}

TEST_F(CompressedTensors, OtherKindsAreRefusedByField) {
  const ordered_json whole = config_;
  const auto refused = [&](const std::string& pointer, const ordered_json& value) {
    config_ = whole;
    dictionary()[ordered_json::json_pointer(pointer)] = value;
    return refusal();
  };
  EXPECT_THAT(refused("/format", "pack-quantized"), HasSubstr("quantization_config.format"));
  EXPECT_THAT(refused("/kv_cache_scheme", {{"num_bits", 8}}), HasSubstr("kv_cache_scheme"));
  EXPECT_THAT(refused("/config_groups", ordered_json::object()), HasSubstr("one group or more"));
  EXPECT_THAT(refused("/config_groups/group_0", 3), HasSubstr("an object"));
  EXPECT_THAT(refused("/config_groups/group_0/targets", "Linear"), HasSubstr("a list"));
  EXPECT_THAT(refused("/config_groups/group_0/weights/num_bits", 4),
              HasSubstr("config_groups.group_0.weights.num_bits"));
  EXPECT_THAT(refused("/config_groups/group_0/weights/strategy", "group"),
              HasSubstr("channel or tensor"));
  EXPECT_THAT(refused("/config_groups/group_0/weights/symmetric", false), HasSubstr("symmetric"));
  EXPECT_THAT(refused("/config_groups/group_0/input_activations", nullptr),
              HasSubstr("weights only"));
  EXPECT_THAT(refused("/config_groups/group_1/input_activations/symmetric", false),
              HasSubstr("for dynamic scales"));
  EXPECT_THAT(refused("/config_groups/group_1/input_activations/strategy", "tensor"),
              HasSubstr("token"));
}

TEST(IsCompressedTensors, ByTheirMethod) {
  EXPECT_FALSE(is_compressed_tensors({{"model_type", "llama"}}));
  EXPECT_FALSE(is_compressed_tensors({{"quantization_config", {{"quant_method", "awq"}}}}));
  EXPECT_TRUE(
      is_compressed_tensors({{"quantization_config", {{"quant_method", "compressed-tensors"}}}}));
}

}  // namespace
}  // namespace octet
