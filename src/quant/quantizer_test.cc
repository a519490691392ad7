// Against the outputs of the real msModelSlim in tests/golden (its README: how they were made and
// the tolerances used here).
#include "src/quant/quantizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstring>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/checkpoint/check.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using tests::kGolden;

struct Case {
  const char* model;
  const char* name;
  QuantizeOptions options;
};

// Options of `--compat msmodelslim` with no linear kept in float but lm_head, changed by `change`.
template <typename Change>
Case make_case(const char* model, const char* name, Change change) {
  QuantizeOptions o;
  o.output.keep_float.names.emplace();
  o.output.layout = Layout::kMsmodelslim;
  o.run.quiet = true;
  change(o);
  return {model, name, o};
}

Case anti_case(const char* model, const char* name, AntiMethod method) {
  return make_case(model, name, [&](QuantizeOptions& o) { o.tool().anti_method = method; });
}

Case scheme_case(const char* model, const char* name, Scheme scheme) {
  return make_case(model, name, [&](QuantizeOptions& o) { o.tool().scheme = scheme; });
}

std::vector<Case> cases() {
  constexpr const char *llama = "llama_fp16", *qwen = "qwen2_bf16";
  const auto nothing = [](QuantizeOptions&) {};
  return {
      make_case(llama, "minmax", nothing),
      make_case(llama, "hist", [](auto& o) { o.tool().act_method = ActMethod::kHistogram; }),
      make_case(llama, "auto", [](auto& o) { o.tool().act_method = ActMethod::kAuto; }),
      make_case(llama, "minmax_L3", [](auto& o) { o.tool().disable_level = 3; }),
      make_case(llama, "minmax_down_disabled", [](auto& o) { o.output.keep_float.names.reset(); }),
      make_case(llama, "no_last_linear_rollback",
                [](auto& o) { o.output.keep_float.last_linear = false; }),
      scheme_case(llama, "w8a8_dynamic", Scheme::kW8A8Dynamic),
      scheme_case(llama, "pdmix", Scheme::kW8A8Mix),
      make_case(llama, "kv8", [](auto& o) { o.output.quantize_kv_cache = true; }),
      scheme_case(llama, "w8a16", Scheme::kW8A16),
      make_case(llama, "w8a16_asym",
                [](auto& o) {
                  o.tool().scheme = Scheme::kW8A16;
                  o.tool().asymmetric_weights = true;
                }),
      anti_case(llama, "m1", AntiMethod::kM1),
      anti_case(llama, "m2", AntiMethod::kM2),
      anti_case(llama, "m3", AntiMethod::kM3),
      anti_case(llama, "m4", AntiMethod::kM4),
      anti_case(llama, "m5", AntiMethod::kM5),
      make_case(llama, "m6",
                [](auto& o) {
                  o.tool().anti_method = AntiMethod::kM6;
                  o.tool().flex.emplace();
                }),
      make_case(llama, "m6_fixed",
                [](auto& o) {
                  o.tool().anti_method = AntiMethod::kM6;
                  o.tool().flex = {.exponents = {{0.6f, 0.3f}}, .o_kept_below = 3};
                }),
      make_case(llama, "mindie_m1",
                [](auto& o) {
                  o.tool().anti_method = AntiMethod::kM1;
                  o.output.layout = Layout::kMindie;
                }),
      make_case(qwen, "minmax", nothing),
      anti_case(qwen, "m1", AntiMethod::kM1),
      scheme_case(qwen, "w8a8_dynamic", Scheme::kW8A8Dynamic),
  };
}

CalibrationData calibration(const char* model) {
  const fs::path file = kGolden / model / "calib_tokens.json";
  CalibrationData data;
  for (auto& ids :
       parse_json(read_text(file), file.string()).get<std::vector<std::vector<int32_t>>>())
    data.samples.push_back({ids});
  return data;
}

// Where float32 rounding inside the tool decided a tie: scale and offset of a linear's input in
// float64, by an independent reference (tools/calibration_reference.py). Ours may be either.
struct Tie {
  float scale = 0;
  float offset = 0;
};
std::map<std::string, Tie> ties(std::string name) {
  if (name.starts_with("mindie_")) name.erase(0, 7);  // another format, the same numbers
  const fs::path file = fs::path(OCTET_SOURCE_DIR) / "tests/data/calibration_float64.json";
  const json all = parse_json(read_text(file), file.string());
  std::map<std::string, Tie> result;
  if (!all.contains(name)) return result;
  for (const auto& [linear, tie] : all.at(name).items())
    result[linear] = {tie.at(0).get<float>(), tie.at(1).get<float>()};
  return result;
}

bool close(float a, float b) { return std::fabs(a - b) <= 1e-5f * std::fabs(a); }

template <typename T>
std::vector<T> values(const TensorView& t) {
  std::vector<T> v(t.data.size() / sizeof(T));
  std::memcpy(v.data(), t.data.data(), t.data.size());
  return v;
}

// A quantized linear while its tensors are compared, in the tool's order.
struct Linear {
  std::vector<int64_t> sums, difference;  // [n] the tool's row sums, and ours less those
  float offset = 0, our_offset = 0;
  float scale_ratio = 1;  // our input scale over the tool's, where float64 agrees with ours
};

// int8 weights [n, k]: equal but for rounding ties (1 in 1e4 off by one).
void expect_weights(const TensorView& want, const TensorView& got, Linear& linear) {
  const auto a = values<int8_t>(want), b = values<int8_t>(got);
  const size_t k = want.shape[1];
  linear = {std::vector<int64_t>(want.shape[0]), std::vector<int64_t>(want.shape[0])};
  size_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_LE(std::abs(a[i] - b[i]), 1) << want.name << " " << i;
    different += a[i] != b[i];
    linear.sums[i / k] += a[i];
    linear.difference[i / k] += b[i] - a[i];
  }
  EXPECT_LE(static_cast<double>(different), std::ceil(1e-4 * static_cast<double>(a.size())))
      << want.name;
}

// quant_bias [n] of a linear without bias, or with the tool's offset: within 2, after ties are
// accounted for.
void expect_quant_bias(const TensorView& want, const TensorView& got, const Linear& l) {
  const auto a = values<int32_t>(want), b = values<int32_t>(got);
  for (size_t i = 0; i < a.size(); ++i) {
    const double sum = static_cast<double>(l.sums[i]), more = static_cast<double>(l.difference[i]);
    EXPECT_NEAR(a[i] + sum * double{l.offset} - (sum + more) * double{l.our_offset}, b[i], 2)
        << want.name << " " << i;
  }
}

void expect_close(const std::string& name, const std::vector<float>& want,
                  const std::vector<float>& got, float relative) {
  ASSERT_EQ(want.size(), got.size()) << name;
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(want[i], got[i], relative * std::fabs(want[i])) << name << " " << i;
}

std::vector<float> deq_values(const TensorView& t) {
  if (t.dtype == DType::kF32) return t.floats();
  std::vector<float> f;
  for (int64_t v : values<int64_t>(t)) f.push_back(std::bit_cast<float>(static_cast<uint32_t>(v)));
  return f;
}

std::string header(const fs::path& file) {
  const std::string all = read_text(file);
  uint64_t size = 0;
  std::memcpy(&size, all.data(), 8);
  return all.substr(8, size);
}

std::string weight_file(Scheme scheme) {
  switch (scheme) {
    case Scheme::kW8A8Dynamic:
      return "quant_model_weight_w8a8_dynamic.safetensors";
    case Scheme::kW8A8Mix:
      return "quant_model_weight_w8a8_mix.safetensors";
    case Scheme::kW8A16:
      return "quant_model_weight_w8a16.safetensors";
    default:
      return "quant_model_weight_w8a8.safetensors";
  }
}

class Golden : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    target_ = fs::path(::testing::TempDir()) / (std::string("octet_golden_") + GetParam().model +
                                                "_" + GetParam().name + std::to_string(::getpid()));
    fs::remove_all(target_);
  }
  void TearDown() override { fs::remove_all(target_); }
  fs::path target_;
};

TEST_P(Golden, EqualsMsModelSlim) {
  const Case& c = GetParam();
  const fs::path want_dir = kGolden / c.model / (std::string("out_") + c.name);
  const QuantizeSummary summary =
      quantize(kGolden / c.model / "model", target_, calibration(c.model), c.options);

  const json info = parse_json(read_text(want_dir / "harness_info.json"), "harness_info.json");
  std::vector<std::string> kept;
  for (const auto& [name, reason] : summary.kept) kept.push_back(name);
  std::vector<std::string> rollback = info.at("rollback");
  std::sort(rollback.begin(), rollback.end());
  EXPECT_EQ(kept, rollback);

  // Files: same names, same description, same header (names, dtypes, shapes, order).
  const char* description = c.options.output.layout == Layout::kMindie
                                ? "quant_model_description_w8a8.json"
                                : "quant_model_description.json";
  EXPECT_EQ(read_text(want_dir / description), read_text(target_ / description));
  const std::string weights = weight_file(c.options.tool().scheme);
  EXPECT_EQ(header(want_dir / weights), header(target_ / weights));

  const SafetensorsFile want(want_dir / weights), got(target_ / weights);
  const auto exceptions = ties(c.name);
  Linear linear;
  for (size_t i = 0; i < want.tensors().size(); ++i) {
    const TensorView &a = want.tensors()[i], &b = got.tensors()[i];
    ASSERT_EQ(a.name, b.name);
    ASSERT_EQ(a.dtype, b.dtype);
    const auto tie = exceptions.find(a.name.substr(0, a.name.rfind('.')));
    if (a.name.ends_with(".input_scale")) {
      const float scale = a.floats()[0], ours = b.floats()[0];
      const bool other = !close(scale, ours) && tie != exceptions.end();
      EXPECT_PRED2(close, other ? tie->second.scale : scale, ours) << a.name;
      linear.scale_ratio = other ? ours / scale : 1;
    } else if (a.name.ends_with(".input_offset")) {
      linear.offset = a.floats()[0];
      linear.our_offset = b.floats()[0];
      const bool other = linear.offset != linear.our_offset && tie != exceptions.end();
      EXPECT_EQ(other ? tie->second.offset : linear.offset, linear.our_offset) << a.name;
    } else if (a.name.ends_with(".deq_scale")) {
      std::vector<float> scales = deq_values(a);
      for (float& v : scales) v *= linear.scale_ratio;
      expect_close(a.name, scales, deq_values(b), 1e-5f);
    } else if (a.name.ends_with(".quant_bias")) {
      expect_quant_bias(a, b, linear);
    } else if (a.dtype == DType::kI8) {
      expect_weights(a, b, linear);
    } else {
      expect_close(a.name, a.floats(), b.floats(), 1e-5f);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(cases()), [](const auto& c) {
  return std::string(c.param.model) + "_" + c.param.name;
});

// Without the tool's compatibility: what each type stores, complete in the description, and
// readable by the rules of `octet check`.
class Types : public ::testing::Test {
 protected:
  const ModelFolder& quantized(const char* model, QuantizeOptions o, bool with_data = true) {
    o.run.quiet = true;
    o.run.overwrite = true;
    quantize(kGolden / model / "model", target_, with_data ? calibration(model) : CalibrationData{},
             o);
    for (const Finding& f : check_folder(target_))
      EXPECT_NE(f.severity, Severity::kError) << f.tensor << ": " << f.problem;
    folder_.emplace(target_);
    return *folder_;
  }
  std::string parts_of(const std::string& linear) const {
    std::string parts;
    for (const TensorView* t : folder_->tensors().all())
      if (t->name.starts_with(linear + "."))
        parts += t->name.substr(linear.size()) + " " + std::string(dtype_name(t->dtype)) + " ";
    return parts;
  }

  octet::tests::TempFolder place_{"quantizer_types"};
  fs::path target_ = place_ / "out";
  std::optional<ModelFolder> folder_;
};

TEST_F(Types, TensorsByDefault) {
  const std::string static_parts =
      ".input_scale BF16 .input_offset BF16 .quant_bias I32 .deq_scale F32 ";
  const std::string scales = ".weight_scale F32 .weight_offset F32 ";
  struct {
    Scheme scheme;
    const char* word;
    const char* file;
    std::string parts;
  } const cases[] = {
      {Scheme::kW8A8, "W8A8", "w8a8", ".weight I8 .bias BF16 " + static_parts},
      {Scheme::kW8A8Mix, "W8A8_MIX", "w8a8_mix", ".weight I8 .bias BF16 " + scales + static_parts},
      {Scheme::kW8A8Dynamic, "W8A8_DYNAMIC", "w8a8_dynamic", ".weight I8 .bias BF16 " + scales},
      {Scheme::kW8A16, "W8A16", "w8a16", ".weight I8 .bias BF16 " + scales},
  };
  for (const auto& c : cases) {
    SCOPED_TRACE(c.word);
    QuantizeOptions o;
    o.tool().scheme = c.scheme;
    const ModelFolder& folder = quantized("qwen2_bf16", o);
    EXPECT_EQ(parts_of("model.layers.0.self_attn.k_proj"), c.parts);
    EXPECT_EQ(parts_of("model.layers.0.mlp.down_proj"), ".weight BF16 ");
    EXPECT_EQ(folder.description()->model_quant_type, c.word);
    EXPECT_EQ(folder.scheme("model.layers.0.self_attn.k_proj"), c.scheme);
    EXPECT_EQ(folder.config().raw.at("quantize"), c.file);
    EXPECT_TRUE(
        fs::exists(target_ / ("quant_model_weight_" + std::string(c.file) + ".safetensors")));
  }
}

TEST_F(Types, KvCache) {
  QuantizeOptions o;
  o.output.quantize_kv_cache = true;
  o.tool().scheme = Scheme::kW8A8Dynamic;
  const ModelFolder& folder = quantized("qwen2_bf16", o);
  for (const char* linear : {"k_proj", "v_proj"}) {
    const std::string name = std::string("model.layers.1.self_attn.") + linear;
    EXPECT_TRUE(parts_of(name).starts_with(".kv_cache_scale F32 .kv_cache_offset F32 .weight I8 "));
    EXPECT_EQ(folder.tensors().get(name + ".kv_cache_offset").floats(), std::vector<float>(32, 0));
    EXPECT_EQ(*folder.description()->find(name + ".kv_cache_scale"), "C8");
  }
  for (const char* key : {"kv_cache_type", "kv_quant_type"})
    EXPECT_EQ(folder.description()->raw.at(key), "C8");
}

TEST_F(Types, WithoutCalibration) {
  QuantizeOptions o;
  o.tool().disable_level = 3;  // counts for nothing
  for (Scheme scheme : {Scheme::kW8A8Dynamic, Scheme::kW8A16}) {
    o.tool().scheme = scheme;
    quantized("llama_fp16", o, /*with_data=*/false);
    EXPECT_EQ(folder_->scheme("model.layers.0.self_attn.q_proj"), scheme);
  }
}

TEST_F(Types, OlderLayoutHasNoWordForMix) {
  QuantizeOptions o;
  o.tool().scheme = Scheme::kW8A8Mix;
  o.output.quantize_kv_cache = true;
  o.output.layout = Layout::kMindie;
  const ModelFolder& folder = quantized("llama_fp16", o);
  EXPECT_TRUE(fs::exists(target_ / "quant_model_weight_w8a8.safetensors"));
  EXPECT_TRUE(fs::exists(target_ / "quant_model_description_w8a8.json"));
  EXPECT_EQ(folder.description()->model_quant_type, "W8A8");
  const ordered_json& config = folder.config().raw.at("quantization_config");
  EXPECT_EQ(config.at("pdmix"), true);
  EXPECT_EQ(config.at("kv_quant_type"), "C8");
}

TEST_F(Types, WhatDoesNotGoTogether) {
  const auto refused = [&](const char* part, auto change, bool with_data = true) {
    QuantizeOptions o;
    change(o);
    try {
      quantized("llama_fp16", o, with_data);
      ADD_FAILURE() << part;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
    }
    EXPECT_FALSE(fs::exists(target_));
  };
  refused("asymmetric", [](auto& o) { o.tool().asymmetric_weights = true; });
  refused("qwen3", [](auto& o) {
    o.tool().scheme = Scheme::kW8A16;
    o.tool().anti_method = AntiMethod::kM6;
    o.output.keep_float.model_type = "qwen3";
  });
  refused(
      "static ranges", [](auto&) {}, false);
  refused(
      "KV cache",
      [](auto& o) {
        o.tool().scheme = Scheme::kW8A16;
        o.output.quantize_kv_cache = true;
      },
      false);
  refused(
      "outlier suppression",
      [](auto& o) {
        o.tool().scheme = Scheme::kW8A16;
        o.tool().anti_method = AntiMethod::kM3;
      },
      false);
}

// Texts of their own for outlier suppression change the smoothing and nothing else.
TEST_F(Types, OutlierBatches) {
  QuantizeOptions o;
  o.tool().anti_method = AntiMethod::kM4;
  o.run.quiet = o.run.overwrite = true;
  const auto norm = [&](const CalibrationData& data) {
    quantize(kGolden / "llama_fp16/model", target_, data, o);
    return ModelFolder(target_).tensors().get("model.layers.0.input_layernorm.weight").floats();
  };
  CalibrationData data = calibration("llama_fp16");
  const std::vector<float> same = norm(data);
  data.outlier = data.samples;
  EXPECT_EQ(norm(data), same);
  data.outlier = {{{5, 6, 7, 0}, {8, 9, 10, 11}}};
  EXPECT_NE(norm(data), same);
  data.outlier = {{{5, 6, 999}}};
  EXPECT_THROW(norm(data), Error);
}

}  // namespace
}  // namespace octet
