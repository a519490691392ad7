// A good W8A8 folder (an output of the real msModelSlim), broken in one way at a time.
#include "src/checkpoint/check.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::LooseTensor;
using octet::tests::TempFolder;
using ::testing::HasSubstr;

const fs::path kLlama = tests::kGolden / "llama_fp16";
constexpr const char* kWeights = "quant_model_weight_w8a8.safetensors";
constexpr const char* kDescription = "quant_model_description.json";

class Check : public ::testing::Test {
 protected:
  Check()
      : dir_(std::string("check_") +
             ::testing::UnitTest::GetInstance()->current_test_info()->name()) {
    config_ = parse_ordered_json(read_text(kLlama / "model/config.json"), "config.json");
    take("minmax");
  }

  // Begins anew with another output of the tool.
  void take(const std::string& name) {
    const fs::path folder = kLlama / ("out_" + name);
    description_ = parse_ordered_json(read_text(folder / kDescription), kDescription);
    tensors_ = octet::tests::loose_tensors(folder);
  }

  LooseTensor& tensor(const std::string& name) {
    for (LooseTensor& t : tensors_)
      if (t.spec.name == name) return t;
    throw std::out_of_range(name);
  }
  template <typename T>
  void set(const std::string& name, DType dtype, const Shape& shape, const std::vector<T>& values) {
    tensor(name).set(dtype, shape, values);
  }
  void remove(const std::string& name) {
    std::erase_if(tensors_, [&](const LooseTensor& t) { return t.spec.name == name; });
  }

  std::vector<Finding> run() {
    write_text(dir_ / "config.json", config_.dump(2));
    if (!description_.is_null()) write_text(dir_ / kDescription, description_.dump(2));
    octet::tests::write_tensors(dir_.path(), tensors_, {"quant_model_weight_w8a8", 0, false});
    return check_folder(dir_.path());
  }

  // Exactly the findings of one cause: at least one error, all about `tensor`, saying `word`.
  void expect_error(const std::string& tensor, const std::string& word) {
    const std::vector<Finding> findings = run();
    bool found = false;
    for (const Finding& f : findings) {
      if (f.severity == Severity::kWarning) continue;
      const std::string all = f.problem + " " + f.expected + " " + f.found + " " + f.remedy;
      if (f.tensor == tensor && all.find(word) != std::string::npos) found = true;
    }
    EXPECT_TRUE(found) << tensor << ": " << word << " among " << findings.size()
                       << " findings, e.g. "
                       << (findings.empty() ? "" : findings[0].tensor + ": " + findings[0].problem);
  }

  TempFolder dir_;
  ordered_json config_, description_;
  std::vector<LooseTensor> tensors_;
};

const std::string kQ1 = "model.layers.1.self_attn.q_proj", kK1 = "model.layers.1.self_attn.k_proj",
                  kUp2 = "model.layers.2.mlp.up_proj";

TEST_F(Check, TheToolsOutputIsGood) {
  for (const char* name : {"minmax", "w8a16"}) {
    take(name);
    for (const Finding& f : run()) ADD_FAILURE() << name << ": " << f.tensor << ": " << f.problem;
  }
  take("kv8");
  const std::vector<Finding> findings = run();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Severity::kWarning);
  EXPECT_THAT(findings[0].remedy, HasSubstr("0.25.1"));
}

TEST_F(Check, ScalesPerTokenWarnInFloat16) {
  for (const char* name : {"w8a8_dynamic", "pdmix"}) {
    take(name);
    config_["torch_dtype"] = "float16";
    const std::vector<Finding> findings = run();
    ASSERT_EQ(findings.size(), 1u) << name;
    EXPECT_EQ(findings[0].severity, Severity::kWarning);
    EXPECT_EQ(findings[0].tensor, "model.layers.0.self_attn.q_proj.weight");
    EXPECT_THAT(findings[0].remedy, HasSubstr("vLLM-Ascend"));
  }
  take("w8a8_dynamic");  // nothing in it depends on the model's type
  config_["torch_dtype"] = "bfloat16";
  EXPECT_TRUE(run().empty());
}

TEST_F(Check, WeightScales) {
  for (const char* name : {"w8a8_dynamic", "pdmix", "w8a16"}) {
    take(name);
    set(kQ1 + ".weight_scale", DType::kF32, {64, 1}, std::vector<float>(64));
    expect_error(kQ1 + ".weight_scale", "positive");
    set(kQ1 + ".weight_scale", DType::kF32, {64, 1}, std::vector<float>(64, INFINITY));
    expect_error(kQ1 + ".weight_scale", "positive");
    set(kQ1 + ".weight_scale", DType::kF32, {64}, std::vector<float>(64, 1));
    expect_error(kQ1 + ".weight_scale", "[64, 1]");
    set(kQ1 + ".weight_scale", DType::kI32, {64, 1}, std::vector<int32_t>(64, 1));
    expect_error(kQ1 + ".weight_scale", "F32");
    remove(kQ1 + ".weight_scale");
    expect_error(kQ1 + ".weight_scale", "missing");
  }
}

TEST_F(Check, WeightOffsets) {
  const std::vector<float> ones(64, 1);
  for (const char* name : {"w8a8_dynamic", "pdmix"}) {
    take(name);
    set(kQ1 + ".weight_offset", DType::kF32, {64, 1}, ones);
    expect_error(kQ1 + ".weight_offset", "symmetric");
  }
  take("w8a16");
  set(kQ1 + ".weight_offset", DType::kF32, {64, 1}, ones);
  const std::vector<Finding> findings = run();
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Severity::kWarning);
  EXPECT_EQ(findings[0].tensor, kQ1 + ".weight_offset");
}

TEST_F(Check, MixNeedsBothHalves) {
  take("pdmix");
  remove(kQ1 + ".deq_scale");
  expect_error(kQ1 + ".deq_scale", "missing");
}

TEST_F(Check, Int8KvCache) {
  const std::string scale = kK1 + ".kv_cache_scale", offset = kK1 + ".kv_cache_offset";
  const auto broken = [&](const auto& change, const std::string& tensor, const std::string& word) {
    take("kv8");
    change();
    expect_error(tensor, word);
  };
  broken([&] { remove(scale); }, scale, "missing");
  broken([&] { remove(offset); }, offset, "missing");
  broken([&] { set(scale, DType::kF32, {16}, std::vector<float>(16, 1)); }, scale, "[32]");
  broken([&] { set(scale, DType::kI8, {32}, std::vector<int8_t>(32, 1)); }, scale, "F32");
  broken([&] { set(scale, DType::kF32, {32}, std::vector<float>(32)); }, scale, "positive");
  broken([&] { set(offset, DType::kF32, {32}, std::vector<float>(32, NAN)); }, offset, "finite");
  broken([&] { description_["kv_cache_type"] = "C4"; }, "", "C4");
}

TEST_F(Check, Int8KvCacheThatNotEveryLoaderTakes) {
  const auto only_warning = [&](const auto& change) {
    take("kv8");
    change();
    const std::vector<Finding> findings = run();
    EXPECT_FALSE(findings.empty());
    for (const Finding& f : findings) EXPECT_EQ(f.severity, Severity::kWarning) << f.problem;
    return findings.empty() ? Finding{} : findings[0];
  };
  EXPECT_EQ(only_warning([&] {
              set(kK1 + ".kv_cache_offset", DType::kF32, {32}, std::vector<float>(32, 3));
            }).tensor,
            kK1 + ".kv_cache_offset");
  EXPECT_THAT(only_warning([&] { description_.erase("kv_quant_type"); }).problem,
              HasSubstr("kv_quant_type"));
  EXPECT_THAT(only_warning([&] {
                description_.erase("kv_cache_type");
                description_.erase("kv_quant_type");
              }).problem,
              HasSubstr("does not ask"));
}

TEST_F(Check, MissingTensors) {
  remove(kQ1 + ".deq_scale");
  expect_error(kQ1 + ".deq_scale", "missing");
}

TEST_F(Check, MissingNorm) {
  remove("model.norm.weight");
  expect_error("model.norm.weight", "missing");
}

TEST_F(Check, NormsOfHeads) {
  const std::string kinds[] = {"q_norm", "k_norm"};
  const uint64_t heads = config_["num_attention_heads"],
                 d = config_["hidden_size"].get<uint64_t>() / heads;
  config_["model_type"] = "qwen3";
  config_["architectures"] = {"Qwen3ForCausalLM"};
  config_["head_dim"] = d;
  const auto name = [](int layer, const std::string& kind) {
    return "model.layers." + std::to_string(layer) + ".self_attn." + kind + ".weight";
  };
  for (int layer = 0; layer < config_["num_hidden_layers"]; ++layer)
    for (const std::string& kind : kinds) {
      LooseTensor norm = tensor("model.norm.weight");
      norm.spec.name = name(layer, kind);
      norm.set(DType::kF16, {d}, std::vector<uint16_t>(d, 0x3c00));
      tensors_.push_back(norm);
      description_[norm.spec.name] = "FLOAT";
    }
  for (const Finding& f : run())
    EXPECT_EQ(f.severity, Severity::kWarning) << f.tensor << ": " << f.problem;
  for (const std::string& kind : kinds) {
    const LooseTensor right = tensor(name(1, kind));
    set(name(1, kind), DType::kF16, {d + 1}, std::vector<uint16_t>(d + 1, 0x3c00));
    expect_error(name(1, kind), "[" + std::to_string(d) + "]");
    remove(name(1, kind));
    expect_error(name(1, kind), "missing");
    tensors_.push_back(right);
  }
}

TEST_F(Check, MissingEntry) {
  description_.erase(kQ1 + ".weight");
  expect_error(kQ1 + ".weight", "no entry");
}

TEST_F(Check, StaleEntry) {
  description_["model.layers.9.mlp.up_proj.weight"] = "W8A8";
  expect_error("model.layers.9.mlp.up_proj.weight", "not stored");
}

TEST_F(Check, DoubledEntry) {
  run();
  std::string text = read_text(dir_ / kDescription);
  text.insert(text.find("\"model.norm.weight\""), "\"model.norm.weight\": \"FLOAT\", ");
  write_text(dir_ / kDescription, text);
  const auto findings = check_folder(dir_.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Severity::kWarning);
  EXPECT_EQ(findings[0].found, "model.norm.weight");
}

TEST_F(Check, DeqScaleMustFitTheModelsDtype) {
  config_["torch_dtype"] = "bfloat16";
  expect_error(kQ1 + ".deq_scale", "torch_dtype");
}

TEST_F(Check, WrongWeightDtype) {
  set(kQ1 + ".weight", DType::kU8, {64, 64}, std::vector<uint8_t>(64 * 64));
  expect_error(kQ1 + ".weight", "I8");
}

TEST_F(Check, FloatWeightUnderAQuantizedName) {
  set(kQ1 + ".weight", DType::kF32, {64, 64}, std::vector<float>(64 * 64));
  expect_error(kQ1 + ".weight", "the file does not");
}

TEST_F(Check, Int8WeightUnderAFloatName) {
  description_[kQ1 + ".weight"] = "FLOAT";
  expect_error(kQ1 + ".weight", "should say W8A8");
}

TEST_F(Check, WrongShape) {
  set(kQ1 + ".quant_bias", DType::kI32, {32}, std::vector<int32_t>(32));
  expect_error(kQ1 + ".quant_bias", "[64]");
}

TEST_F(Check, ScalarInputScale) {
  set(kQ1 + ".input_scale", DType::kF32, {}, std::vector<float>{0.1f});
  expect_error(kQ1 + ".input_scale", "[1]");
}

TEST_F(Check, InputScaleMustBePositive) {
  set(kQ1 + ".input_scale", DType::kF32, {1}, std::vector<float>{0});
  expect_error(kQ1 + ".input_scale", "positive");
}

TEST_F(Check, InputOffsetMustBeAnInt8) {
  set(kQ1 + ".input_offset", DType::kF32, {1}, std::vector<float>{1.5f});
  expect_error(kQ1 + ".input_offset", "integer");
  set(kQ1 + ".input_offset", DType::kF32, {1}, std::vector<float>{128});
  expect_error(kQ1 + ".input_offset", "integer");
}

TEST_F(Check, DeqScaleMustBeFinite) {
  set(kQ1 + ".deq_scale", DType::kI64, {64}, std::vector<int64_t>(64, 0x7f800000));
  expect_error(kQ1 + ".deq_scale", "finite");
}

TEST_F(Check, MixedTypesInsideQkv) {
  description_[kK1 + ".weight"] = "FLOAT";
  set(kK1 + ".weight", DType::kF16, {32, 64}, std::vector<uint16_t>(32 * 64));
  expect_error(kK1 + ".weight", "mixed types inside q/k/v");
}

TEST_F(Check, MixedTypesInsideGateUp) {
  description_[kUp2 + ".weight"] = "FLOAT";
  set(kUp2 + ".weight", DType::kF16, {96, 64}, std::vector<uint16_t>(96 * 64));
  expect_error(kUp2 + ".weight", "mixed types inside gate/up");
}

TEST_F(Check, DifferentInputScalesInsideQkv) {
  set(kK1 + ".input_scale", DType::kF32, {1}, std::vector<float>{0.5f});
  expect_error(kK1 + ".input_scale", "differs inside q/k/v");
}

TEST_F(Check, UnknownTypeAndUnknownName) {
  description_[kQ1 + ".weight"] = "W3A3";
  expect_error(kQ1 + ".weight", "W3A3");
  tensors_.push_back({{"model.layers.0.extra", DType::kI8, {1}}, {std::byte{1}}});
  expect_error("model.layers.0.extra", "no loader knows");
}

TEST_F(Check, NormBiasMustBeDescribed) {
  tensors_.push_back({{"model.norm.bias", DType::kF32, {64}}, std::vector<std::byte>(256)});
  expect_error("model.norm.bias", "does not name");
}

TEST_F(Check, DescriptionsMustAgree) {
  config_["quantization_config"] = description_;
  EXPECT_TRUE(run().empty());
  config_["quantization_config"][kQ1 + ".weight"] = "FLOAT";
  expect_error(kQ1 + ".weight", "disagree");
}

TEST_F(Check, StaleFloatIndex) {
  run();
  write_text(dir_ / "model.safetensors.index.json", R"({"weight_map": {}})");
  EXPECT_FALSE(check_folder(dir_.path()).empty());
}

TEST_F(Check, Int8WithoutADescription) {
  description_ = nullptr;
  expect_error("", "no quantization description");
}

TEST_F(Check, CutWeights) {
  run();
  const std::string all = read_text(dir_ / kWeights);
  write_text(dir_ / kWeights, all.substr(0, all.size() / 2));
  const auto findings = check_folder(dir_.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_THAT(findings[0].problem, HasSubstr("cut or damaged"));
}

TEST_F(Check, StrayFloatShard) {
  run();
  fs::rename(dir_ / kWeights, dir_ / "quant_model_weight_w8a8-00001-of-00001.safetensors");
  ordered_json map = ordered_json::object();
  for (const LooseTensor& t : tensors_)
    map[t.spec.name] = "quant_model_weight_w8a8-00001-of-00001.safetensors";
  write_text(dir_ / "quant_model_weight_w8a8.safetensors.index.json",
             ordered_json{{"weight_map", map}}.dump());
  EXPECT_TRUE(check_folder(dir_.path()).empty());
  octet::tests::write_raw_safetensors(dir_ / "model.safetensors", "{}", "");
  const auto findings = check_folder(dir_.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_THAT(findings[0].file, HasSubstr("model.safetensors"));
}

TEST_F(Check, AnotherQuantMethod) {
  config_["quantization_config"] = description_;
  config_["quantization_config"]["quant_method"] = "fp8";
  expect_error("", "quant_method");
}

TEST_F(Check, NoTorchDtype) {
  config_["torch_dtype"] = nullptr;
  expect_error("", "torch_dtype");
  config_.erase("torch_dtype");
  expect_error("", "torch_dtype");
}

TEST_F(Check, NullInAQuantizationConfigIsNothing) {
  config_["quantization_config"] = description_;
  config_["quantization_config"]["quant_method"] = nullptr;
  EXPECT_TRUE(run().empty());
  take("kv8");
  config_.erase("quantization_config");
  description_["kv_quant_type"] = nullptr;
  const std::vector<Finding> findings = run();
  ASSERT_EQ(findings.size(), 2u);  // the second is about all int8 caches of Llama
  EXPECT_THAT(findings[0].problem, HasSubstr("kv_quant_type"));
}

// Other loaders would compute with the embedding.
TEST_F(Check, AQuantizedModelThatIsTiedByMistake) {
  config_["tie_word_embeddings"] = true;
  expect_error("lm_head.weight", "tie_word_embeddings");
}

TEST_F(Check, DoubledKeyInConfig) {
  run();
  std::string text = read_text(dir_ / "config.json");
  text.insert(1, "\"hidden_size\": 64, ");
  write_text(dir_ / "config.json", text);
  const auto findings = check_folder(dir_.path());
  ASSERT_EQ(findings.size(), 1u);
  EXPECT_EQ(findings[0].severity, Severity::kWarning);
  EXPECT_EQ(findings[0].found, "hidden_size");
}

TEST_F(Check, ValuesMustBeFinite) {
  std::vector<float> norm(64, 1.0f);
  norm[7] = std::numeric_limits<float>::quiet_NaN();
  set("model.norm.weight", DType::kF32, {64}, norm);
  expect_error("model.norm.weight", "NaN");
}

// All forms in which a description may come (docs/formats.md).
TEST_F(Check, DescriptionVariants) {
  run();
  const auto load = [&] { return QuantDescription::load(dir_.path(), config_); };
  ASSERT_TRUE(load());
  EXPECT_EQ(*load()->find(kQ1 + ".weight"), "W8A8");
  // The old name, and a partial dictionary in config.json that must be ignored.
  fs::rename(dir_ / kDescription, dir_ / "quant_model_description_w8a8.json");
  config_["quantization_config"] = {{"group_size", 0}, {"kv_quant_type", nullptr}};
  ASSERT_TRUE(load());
  EXPECT_EQ(load()->source, (dir_ / "quant_model_description_w8a8.json").string());
  EXPECT_FALSE(load()->int8_kv);
  config_["quantization_config"]["kv_quant_type"] = "C8";
  EXPECT_TRUE(load()->int8_kv);
  // Two files.
  write_text(dir_ / kDescription, description_.dump());
  EXPECT_THAT(octet::tests::message_of([&] { load(); }), HasSubstr("more than one"));
  // Complete in config.json: wins over files.
  config_["quantization_config"] = description_;
  EXPECT_EQ(load()->source, (dir_ / "config.json").string());
  // Somebody else's method.
  config_["quantization_config"] = {{"quant_method", "awq"}};
  EXPECT_THAT(octet::tests::message_of([&] { load(); }), HasSubstr("awq"));
}

}  // namespace
}  // namespace octet
