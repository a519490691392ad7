// Against the outputs of the real msModelSlim in tests/golden (its README: how they were made and
// the tolerances used here).
#include "src/quant/quantizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"

namespace octet {
namespace {

const fs::path kGolden = fs::path(OCTET_SOURCE_DIR) / "tests/golden";

struct Case {
  const char* model;
  const char* name;
  QuantizeOptions options;
};

QuantizeOptions options(ActMethod act, AntiMethod anti = AntiMethod::kNone, size_t level = 0,
                        bool last = true) {
  QuantizeOptions o;
  o.act_method = act;
  o.anti_method = anti;
  o.disable_level = level;
  o.disable_last_linear = last;
  o.disable_names.emplace();
  o.compat_msmodelslim = true;
  o.quiet = true;
  return o;
}

std::vector<Case> cases() {
  std::vector<Case> c = {
      {"llama_fp16", "minmax", options(ActMethod::kMinMax)},
      {"llama_fp16", "hist", options(ActMethod::kHistogram)},
      {"llama_fp16", "auto", options(ActMethod::kAuto)},
      {"llama_fp16", "minmax_L3", options(ActMethod::kMinMax, AntiMethod::kNone, 3)},
      {"llama_fp16", "minmax_down_disabled", options(ActMethod::kMinMax)},
      {"llama_fp16", "no_last_linear_rollback",
       options(ActMethod::kMinMax, AntiMethod::kNone, 0, false)},
      {"llama_fp16", "m1", options(ActMethod::kMinMax, AntiMethod::kM1)},
      {"llama_fp16", "m3", options(ActMethod::kMinMax, AntiMethod::kM3)},
      {"llama_fp16", "mindie_m1", options(ActMethod::kMinMax, AntiMethod::kM1)},
      {"qwen2_bf16", "minmax", options(ActMethod::kMinMax)},
      {"qwen2_bf16", "m1", options(ActMethod::kMinMax, AntiMethod::kM1)},
  };
  for (Case& k : c) {
    if (std::string(k.name) == "minmax_down_disabled") k.options.disable_names.reset();
    if (std::string(k.name) == "mindie_m1") k.options.mindie_format = true;
  }
  return c;
}

std::vector<std::vector<int32_t>> calibration(const char* model) {
  const fs::path file = kGolden / model / "calib_tokens.json";
  return parse_json(read_text(file), file.string()).get<std::vector<std::vector<int32_t>>>();
}

// Where float32 rounding inside the tool decided a tie: an independent reference in float64
// (tools/calibration_reference.py) gives our value, not the tool's. One element over a rounding
// border moves a later maximum by less than 1e-4; one element over a histogram bin's border moves
// an end of the range by up to two of its 2048 bins.
float scale_tolerance(const std::string& name, const std::string& tensor) {
  const auto in = [&](const char* prefix) { return tensor.starts_with(prefix); };
  if ((name == "hist" || name == "auto") && in("model.layers.2.self_attn.")) return 2.0f / 1800;
  if (name == "m3" && (in("model.layers.2.self_attn.o_proj") || in("model.layers.2.mlp.down_proj")))
    return 1e-4f;
  return 1e-5f;
}

template <typename T>
std::vector<T> values(const TensorView& t) {
  std::vector<T> v(t.data.size() / sizeof(T));
  std::memcpy(v.data(), t.data.data(), t.data.size());
  return v;
}

// int8 weights [n, k]: equal but for rounding ties (1 in 1e4 off by one). Returns what the ties
// change in each row's sum.
std::vector<int64_t> expect_weights(const TensorView& want, const TensorView& got) {
  const auto a = values<int8_t>(want), b = values<int8_t>(got);
  const size_t k = want.shape[1];
  std::vector<int64_t> sums(want.shape[0]);
  size_t different = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_LE(std::abs(a[i] - b[i]), 1) << want.name << " " << i;
    different += a[i] != b[i];
    sums[i / k] += b[i] - a[i];
  }
  EXPECT_LE(static_cast<double>(different), std::ceil(1e-4 * static_cast<double>(a.size())))
      << want.name;
  return sums;
}

// quant_bias [n]: within 2, after the ties in the weights are accounted for.
void expect_quant_bias(const TensorView& want, const TensorView& got,
                       const std::vector<int64_t>& sums, float offset) {
  const auto a = values<int32_t>(want), b = values<int32_t>(got);
  for (size_t i = 0; i < a.size(); ++i)
    EXPECT_NEAR(static_cast<double>(a[i]) - static_cast<double>(sums[i]) * double{offset},
                static_cast<double>(b[i]), 2)
        << want.name << " " << i;
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

class Golden : public ::testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    target_ = fs::path(::testing::TempDir()) /
              (std::string("octet_golden_") + GetParam().model + "_" + GetParam().name);
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
  const char* description = c.options.mindie_format ? "quant_model_description_w8a8.json"
                                                    : "quant_model_description.json";
  EXPECT_EQ(read_text(want_dir / description), read_text(target_ / description));
  const char* weights = "quant_model_weight_w8a8.safetensors";
  EXPECT_EQ(header(want_dir / weights), header(target_ / weights));

  const SafetensorsFile want(want_dir / weights), got(target_ / weights);
  std::vector<int64_t> sums;  // of the linear being read: weight comes first, quant_bias later
  float offset = 0;
  for (size_t i = 0; i < want.tensors().size(); ++i) {
    const TensorView &a = want.tensors()[i], &b = got.tensors()[i];
    ASSERT_EQ(a.name, b.name);
    ASSERT_EQ(a.dtype, b.dtype);
    const float tolerance = scale_tolerance(c.name, a.name);
    if (a.name.ends_with(".input_offset")) {
      offset = a.floats()[0];
      EXPECT_EQ(a.floats(), b.floats()) << a.name;
    } else if (a.name.ends_with(".deq_scale")) {
      expect_close(a.name, deq_values(a), deq_values(b), tolerance);
    } else if (a.name.ends_with(".quant_bias")) {
      expect_quant_bias(a, b, sums, offset);
    } else if (a.dtype == DType::kI8) {
      sums = expect_weights(a, b);
    } else {
      expect_close(a.name, a.floats(), b.floats(), tolerance);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, Golden, ::testing::ValuesIn(cases()), [](const auto& c) {
  return std::string(c.param.model) + "_" + c.param.name;
});

}  // namespace
}  // namespace octet
