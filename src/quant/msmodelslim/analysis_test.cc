// The smoothed float weights against the state of msModelSlim's model after each method
// (tests/golden).
#include "src/quant/msmodelslim/analysis.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>

#include "src/base/json.h"
#include "src/base/output_folder.h"
#include "src/checkpoint/testing.h"
#include "src/quant/int8/encode.h"
#include "src/quant/output/run_context.h"
#include "src/quant/settings/options.h"

namespace octet {
namespace {

const fs::path kLlama = tests::kGolden / "llama_fp16";

CalibrationData calibration() {
  const fs::path file = kLlama / "calib_tokens.json";
  CalibrationData data;
  for (auto& ids :
       parse_json(read_text(file), file.string()).get<std::vector<std::vector<int32_t>>>())
    data.samples.push_back({ids});
  return data;
}

QuantizeOptions as_the_tool(AntiMethod method) {
  QuantizeOptions o;
  o.tool().anti_method = method;
  o.output.layout = Layout::kMsmodelslim;
  return o;
}

Analysis analysis(const ModelFolder& folder, const CalibrationData& data,
                  const QuantizeOptions& options) {
  ThreadTeam team(2);
  const OutputFolder output(
      fs::path(::testing::TempDir()) / ("octet_analysis_" + std::to_string(::getpid())), true);
  Journal journal(output, {});
  ActivationMemory memory(output.partial(), UINT64_MAX);
  Progress progress("analyze", "layer", folder.config().layers, /*quiet=*/true);
  const std::unique_ptr<Communicator> alone = solo_communicator();
  const RunContext run{output.path(), journal, memory, nullptr, team, *alone};
  return analyze(FloatModel(folder, {}, team), data, options.tool(), options.output, run, progress);
}

void expect_equal_floats(const std::string& name, const std::vector<float>& want,
                         const std::vector<float>& got) {
  ASSERT_EQ(want.size(), got.size()) << name;
  for (size_t i = 0; i < want.size(); ++i)
    ASSERT_NEAR(want[i], got[i], 1e-5 * std::fabs(want[i])) << name << " " << i;
}

class Smoothed : public ::testing::TestWithParam<AntiMethod> {};

TEST_P(Smoothed, EqualsMsModelSlim) {
  const ModelFolder folder(kLlama / "model");
  QuantizeOptions options = as_the_tool(GetParam());
  if (GetParam() == AntiMethod::kM6) options.tool().flex.emplace();
  const Analysis result = analysis(folder, calibration(), options);
  const SafetensorsFile state(kLlama /
                              ("anti_" + anti_method_name(GetParam()) + "_fp32_state.safetensors"));
  std::map<std::string, std::vector<float>> want;
  for (const TensorView& t : state.tensors()) want[t.name] = t.floats();
  const auto norm = [&](const std::string& prefix) {
    const auto wrapped = want.find(prefix + ".module.weight");
    return wrapped == want.end() ? want.at(prefix + ".weight") : wrapped->second;
  };
  ThreadTeam team(2);
  for (int64_t layer = 0; layer < folder.config().layers; ++layer) {
    FloatLayer weights = load_float_layer(folder, layer, team);
    smooth_layer(result, layer, folder.config(), DType::kF32, weights);
    for (const LayerLinear& l : layer_linears(folder.config(), layer)) {
      const std::string name = l.full_name + ".weight";
      expect_equal_floats(name, want.at(name), weights.at(l.kind).w);
    }
    for (const LayerNorm& n : layer_norms(folder.config(), layer))
      expect_equal_floats(n.full_name, norm(n.full_name), weights.norms[n.kind].weight);
  }
}

INSTANTIATE_TEST_SUITE_P(Methods, Smoothed,
                         ::testing::Values(AntiMethod::kM1, AntiMethod::kM2, AntiMethod::kM3,
                                           AntiMethod::kM4, AntiMethod::kM5, AntiMethod::kM6),
                         [](const auto& m) { return anti_method_name(m.param); });

// Scores as the tool's own, which are those of the smoothed model.
TEST(Analysis, ScoresEqualMsModelSlim) {
  const ModelFolder folder(kLlama / "model");
  for (const auto& [method, name] :
       {std::pair(AntiMethod::kNone, "minmax"), std::pair(AntiMethod::kM4, "m4")}) {
    QuantizeOptions options = as_the_tool(method);
    options.tool().disable_level = 1;
    const Analysis result = analysis(folder, calibration(), options);
    const fs::path file = kLlama / (std::string("out_") + name) / "harness_info.json";
    const json info = parse_json(read_text(file), file.string());
    const json& want = info.at("sensitivity_range_over_std");
    ASSERT_EQ(result.scores.size(), want.size());
    for (const LinearScore& s : result.scores)
      EXPECT_NEAR(s.score, want.at(s.name).get<double>(), 2e-6 * s.score) << s.name;
  }
}

// Statistics of batches that are one tensor of several sequences: as those of the sequences one by
// one, for a method whose statistics only take extremes.
TEST(Analysis, BatchesCountLikeTheirSequences) {
  const ModelFolder folder(kLlama / "model");
  CalibrationData apart = calibration(), together = apart;
  const size_t length = 7;  // of the shortest sample
  TokenBatch batch;
  for (TokenBatch& sample : apart.samples) {
    ASSERT_GE(sample[0].size(), length);
    sample[0].resize(length);
    batch.push_back(sample[0]);
  }
  together.outlier = {batch};
  const QuantizeOptions options = as_the_tool(AntiMethod::kM4);
  const Analysis a = analysis(folder, apart, options), b = analysis(folder, together, options);
  for (size_t layer = 0; layer < a.smoothing.size(); ++layer)
    for (size_t g = 0; g < a.smoothing[layer].size(); ++g)
      expect_equal_floats(std::to_string(layer), a.smoothing[layer][g], b.smoothing[layer][g]);
}

TEST(Analysis, ThresholdScoresOfItsCandidatesOnly) {
  const ModelFolder folder(kLlama / "model");
  QuantizeOptions options = as_the_tool(AntiMethod::kNone);
  options.tool().disable_threshold = 0.01;
  const Analysis all = analysis(folder, calibration(), options);
  ASSERT_EQ(all.threshold_scores.size(), 3u);
  for (const LinearScore& s : all.threshold_scores) {
    EXPECT_TRUE(s.name.ends_with("down_proj"));
    EXPECT_GT(s.score, 0);
  }
  options.output.keep_float.names = {{"model.layers.1.self_attn.k_proj", "lm_head"}};
  const Analysis two = analysis(folder, calibration(), options);
  ASSERT_EQ(two.threshold_scores.size(), 2u);
  EXPECT_EQ(two.threshold_scores[0].name, "model.layers.1.self_attn.k_proj");
  EXPECT_EQ(two.threshold_scores[1].name, "lm_head");
}

// Without the tool's compatibility norm / scale is a value of the model's 16 bits.
TEST(Analysis, NormsStayRepresentable) {
  const ModelFolder folder(kLlama / "model");
  QuantizeOptions options;
  options.tool().anti_method = AntiMethod::kM4;
  const Analysis result = analysis(folder, calibration(), options);
  ThreadTeam team(2);
  const FloatLayer weights = load_float_layer(folder, 0, team);
  for (size_t i = 0; i < weights.norms[NormKind::kInput].weight.size(); ++i) {
    const float v = weights.norms[NormKind::kInput].weight[i] / result.smoothing[0][0][i];
    EXPECT_NEAR(v, round_to(v, DType::kF16), 1e-6 * std::fabs(v)) << i;
  }
}

}  // namespace
}  // namespace octet
