#include "src/quant/analysis.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/model/weights.h"
#include "src/quant/encode.h"
#include "src/quant/outlier.h"
#include "src/quant/sensitivity.h"

namespace octet {
namespace {

constexpr size_t kScoreSamples = 5;

bool needs_scores(const QuantizeOptions& o) {
  return o.disable_level > 0 || o.act_method == ActMethod::kAuto;
}

// m1 takes its statistics from all samples, m3 from the first.
size_t samples_needed(const QuantizeOptions& o, size_t available) {
  if (o.anti_method == AntiMethod::kM1) return available;
  return std::min(available, needs_scores(o) ? kScoreSamples : 1);
}

const Norm& norm_of(const FloatLayer& layer, const InputGroup& group) {
  return group.kinds[0] == LinearKind::kQ ? layer.input_norm : layer.post_norm;
}

// The scale for which norm / scale is a value of the stored dtype, so that norm and weights stay
// exact inverses after rounding.
void make_representable(const Norm& norm, DType stored, std::vector<float>& scale) {
  for (size_t i = 0; i < scale.size(); ++i) {
    const float rounded = round_to(norm.weight[i] / scale[i], stored);
    if (rounded != 0) scale[i] = norm.weight[i] / rounded;
  }
}

// The inputs of the first samples of one group, and the statistics of all.
struct GroupProbe {
  OutlierStats stats;
  std::vector<std::vector<float>> inputs;  // each [tokens, k]

  explicit GroupProbe(size_t k) : stats(k) {}
  void observe(const float* x, size_t ldx, size_t m, size_t k, bool smoothed, bool scored) {
    if (smoothed) stats.observe(x, ldx, m);
    if (!scored || inputs.size() >= kScoreSamples) return;
    std::vector<float>& copy = inputs.emplace_back();
    for (size_t r = 0; r < m; ++r) copy.insert(copy.end(), x + r * ldx, x + r * ldx + k);
  }
  double score(size_t k, const std::vector<float>& scale) const {
    Sensitivity s;
    for (const auto& x : inputs)
      s.observe(x.data(), k, x.size() / k, k, scale.empty() ? nullptr : scale.data());
    return s.score();
  }
};

}  // namespace

double Analysis::score(const std::string& name) const {
  for (const LinearScore& s : scores)
    if (s.name == name) return s.score;
  OCTET_CHECK(false);
}

bool needs_analysis(const QuantizeOptions& o) {
  return o.anti_method != AntiMethod::kNone || needs_scores(o);
}

Analysis analyze(const ModelFolder& folder, const std::vector<std::vector<int32_t>>& samples,
                 const QuantizeOptions& options, ThreadTeam& team, Progress& progress) {
  const DType stored = stored_dtype(folder.config(), options);
  const bool smooth = options.anti_method != AntiMethod::kNone, scored = needs_scores(options);
  const size_t count = samples_needed(options, samples.size());
  CalibrationStream stream(
      folder, {samples.begin(), samples.begin() + static_cast<ptrdiff_t>(count)}, team);
  Analysis result;
  for (int64_t layer = 0; layer < folder.config().layers; ++layer) {
    progress.update(layer, fmt::format("measuring layer {}", layer));
    const FloatLayer weights = load_float_layer(folder, layer);
    std::vector<GroupProbe> probes;
    std::vector<std::unique_ptr<Linear>> linears;
    for (const InputGroup& group : input_groups()) {
      std::vector<const FloatWeight*> parts;
      for (LinearKind kind : group.kinds) parts.push_back(&weights.at(kind));
      probes.emplace_back(parts[0]->shape.k);
      linears.push_back(pack_float(parts, team));
    }
    for (size_t g = 0; g < probes.size(); ++g) {
      const bool smoothed = smooth && input_groups()[g].after_norm;
      const size_t k = linears[g]->inputs();
      linears[g] = std::make_unique<TapLinear>(
          std::move(linears[g]),
          [&probe = probes[g], k, smoothed, scored](const float* x, size_t ldx, size_t m) {
            probe.observe(x, ldx, m, k, smoothed, scored);
          });
    }
    stream.run(DecoderLayer{weights.input_norm, weights.post_norm, std::move(linears[0]),
                            std::move(linears[1]), std::move(linears[2]), std::move(linears[3])});
    auto& scales = result.smoothing.emplace_back(probes.size());
    for (size_t g = 0; g < probes.size(); ++g) {
      const InputGroup& group = input_groups()[g];
      std::vector<const FloatWeight*> targets;
      for (LinearKind kind : group.kinds) targets.push_back(&weights.at(kind));
      if (smooth && group.after_norm) {
        scales[g] = smoothing_scale(options.anti_method, probes[g].stats, targets, team);
        if (stored != DType::kF32) make_representable(norm_of(weights, group), stored, scales[g]);
      }
      if (!scored) continue;
      const double score = probes[g].score(targets[0]->shape.k, scales[g]);
      for (LinearKind kind : group.kinds)
        result.scores.push_back({linear_name(layer, kind), score});
    }
  }
  if (scored) {
    const size_t hidden = static_cast<size_t>(folder.config().hidden_size);
    GroupProbe probe(hidden);
    stream.tap(load_norm(folder, "model.norm"), [&](const float* x, size_t ldx, size_t m) {
      probe.observe(x, ldx, m, hidden, false, true);
    });
    result.scores.push_back({"lm_head", probe.score(hidden, {})});
  }
  return result;
}

void smooth_layer(const Analysis& analysis, int64_t layer, DType stored, FloatLayer& weights) {
  const auto& scales = analysis.smoothing[static_cast<size_t>(layer)];
  for (size_t g = 0; g < scales.size(); ++g) {
    if (scales[g].empty()) continue;
    const InputGroup& group = input_groups()[g];
    Norm& norm = group.kinds[0] == LinearKind::kQ ? weights.input_norm : weights.post_norm;
    std::vector<FloatWeight*> targets;
    for (LinearKind kind : group.kinds) targets.push_back(&weights.at(kind));
    fuse(scales[g], norm, targets);
    for (float& v : norm.weight) v = round_to(v, stored);
  }
}

}  // namespace octet
