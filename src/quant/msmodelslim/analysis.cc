#include "src/quant/msmodelslim/analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "src/base/error.h"
#include "src/model/weights.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layer/exact.h"
#include "src/quant/layer/kv_range.h"
#include "src/quant/layer/shared_linear.h"
#include "src/quant/msmodelslim/outlier.h"
#include "src/quant/msmodelslim/sensitivity.h"
#include "src/quant/output/run_context.h"
#include "src/quant/settings/model_type.h"

namespace octet {
namespace {

constexpr size_t kScoreSamples = 5;

// The scale for which norm / scale is a value of the stored dtype, so that norm and weights stay
// exact inverses after rounding.
void make_representable(const Norm& norm, DType stored, std::vector<float>& scale) {
  for (size_t i = 0; i < scale.size(); ++i) {
    const float rounded = round_to(norm.weight[i] / scale[i], stored);
    if (rounded != 0) scale[i] = norm.weight[i] / rounded;
  }
}

// `count` numbers below n, spread evenly, or all of them.
std::set<size_t> spread(size_t n, size_t count) {
  std::set<size_t> numbers;
  count = std::min(n, count);
  for (size_t i = 0; i < count; ++i) numbers.insert(i * n / count);
  return numbers;
}

// Which batches each kind of statistics takes.
struct BatchChoice {
  std::set<size_t> smooth, threshold;  // of the outlier batches
  std::set<size_t> score, kv;          // of the samples

  BatchChoice(const ToolMethod& method, bool kv_ranges, const OutlierMethod* suppression,
              size_t outlier_count, size_t sample_count) {
    if (suppression != nullptr) smooth = spread(outlier_count, suppression->stats().batches);
    if (method.disable_threshold > 0) threshold = spread(outlier_count, outlier_count);
    if (kv_ranges) kv = spread(sample_count, sample_count);
    if (!needs_scores(method)) return;
    for (size_t i = 0; i < std::min(sample_count, kScoreSamples); ++i) score.insert(i);
  }
};

// Which batch it is, of the outlier batches, of the samples or, with one number, of both.
struct BatchRef {
  size_t number;
  bool outlier, sample;
};

// What is gathered of one group's input.
class GroupProbe {
 public:
  size_t k = 0;
  std::optional<OutlierStats> stats;
  std::optional<QuantileScore> quantiles;
  std::vector<std::vector<float>> scored;  // the first samples' inputs, each [tokens, k]

  // SPMD. x [m, k] of a batch.
  void observe(Worker& w, const Rows& x, const BatchChoice& chosen, const BatchRef& batch) {
    if (batch.outlier && stats && chosen.smooth.contains(batch.number)) stats->observe(w, x);
    if (w.id() != 0) return;
    if (batch.outlier && quantiles && chosen.threshold.contains(batch.number))
      quantiles->observe(x.x, x.ld, x.m, k);
    if (!batch.sample || !chosen.score.contains(batch.number)) return;
    std::vector<float>& copy = scored.emplace_back();
    for (size_t r = 0; r < x.m; ++r) copy.insert(copy.end(), x.x + r * x.ld, x.x + r * x.ld + k);
  }
  double score(const std::vector<float>& scale, bool as_msmodelslim) const {
    Sensitivity s(as_msmodelslim);
    for (const auto& x : scored)
      s.observe(x.data(), k, x.size() / k, k, scale.empty() ? nullptr : scale.data());
    return s.score();
  }
};

class Analyzer {
 public:
  Analyzer(const FloatModel& model, const CalibrationData& data, const ToolMethod& method,
           const OutputSettings& output, const RunContext& run)
      : model_(model),
        config_(model.config()),
        method_(method),
        kv_cache_(output.quantize_kv_cache),
        as_the_tool_(is_msmodelslim_v0(output.layout)),
        run_(run),
        team_(run.team),
        stored_(stored_types(output.layout, config_.dtype).floats),
        suppression_(make_outlier_method(method, flex_smooth(config_, method, output.keep_float),
                                         as_the_tool_)),
        chosen_(method, kv_cache_ || method.key_smooth, suppression_.get(),
                data.outlier.empty() ? data.samples.size() : data.outlier.size(),
                data.samples.size()) {
    if (method.disable_threshold > 0)
      candidates_ = threshold_candidates(config_, output.keep_float);
    std::set<size_t> outlier = chosen_.smooth, samples = chosen_.score;
    outlier.insert(chosen_.threshold.begin(), chosen_.threshold.end());
    samples.insert(chosen_.kv.begin(), chosen_.kv.end());
    if (!data.outlier.empty()) {
      add_pass(data.outlier, outlier, true, false);
      add_pass(data.samples, samples, false, true);
    } else {
      outlier.insert(samples.begin(), samples.end());
      add_pass(data.samples, outlier, true, true);
    }
  }

  Analysis run(Progress& progress) {
    Journal& journal = run_.journal;
    StreamStates states;
    for (const Batches& p : passes_) states.push_back(p.stream->all_states());
    if (journal.resume(Pass::kMeasure, states)) result_ = journal.get<Analysis>("analysis");
    for (int64_t layer = journal.next_layer(Pass::kMeasure); layer < config_.layers; ++layer) {
      progress.update(layer, fmt::format("measuring layer {}", layer));
      measure_layer(layer);
      progress.add_bytes(model_.layer_bytes(layer));
      journal.put("analysis", result_);
      journal.finish_layer(Pass::kMeasure, layer, states);
    }
    measure_head();
    journal.put("analysis", result_);
    return std::move(result_);
  }

 private:
  struct Batches {
    std::unique_ptr<CalibrationStream> stream;
    std::vector<size_t> numbers;  // of its batches
    bool outlier, samples;        // what they are

    BatchRef batch(size_t index) const { return {numbers[index], outlier, samples}; }
  };

  void add_pass(const std::vector<TokenBatch>& all, const std::set<size_t>& numbers, bool outlier,
                bool samples) {
    if (numbers.empty()) return;
    std::vector<TokenBatch> batches;
    for (size_t number : numbers) batches.push_back(all[number]);
    const auto embed = [&](const std::vector<int32_t>& ids) { return model_.embed(ids, stored_); };
    passes_.push_back(
        {std::make_unique<CalibrationStream>(config_, embed, batches, run_.memory, team_),
         {numbers.begin(), numbers.end()},
         outlier,
         samples});
  }

  bool is_candidate(const std::string& name) const {
    return std::find(candidates_.begin(), candidates_.end(), name) != candidates_.end();
  }

  bool in_scope(int64_t layer, LayerPart part) const {
    return !method_.smooth || method_.smooth->takes(source_name(layer, part), part);
  }

  GroupProbe make_probe(int64_t layer, LayerPart part, size_t k) const {
    GroupProbe probe;
    probe.k = k;
    if (suppression_ && suppression_->applies(part, layer) && in_scope(layer, part)) {
      const OutlierNeeds needs = suppression_->stats();
      probe.stats.emplace(k, chosen_.smooth.size(), needs.keep, needs.deviation);
    }
    for (const std::string& name : linear_names(layer, part))
      if (is_candidate(name)) probe.quantiles.emplace();
    return probe;
  }

  void measure_layer(int64_t layer) {
    FloatLayer weights = model_.layer(layer);
    std::vector<GroupProbe> probes;
    for (const PartRow& row : part_rows())
      probes.push_back(make_probe(layer, row.part, weights.of(row.part)[0]->shape.k));
    const size_t q = static_cast<size_t>(config_.q_size()),
                 kv = static_cast<size_t>(config_.kv_size());
    KvRange keys = KvRange::of_keys(config_, weights.norms), values(kv);
    std::vector<size_t> index(team_.size());  // of the batch, by worker
    const Batches* pass = nullptr;
    DecoderLayer decoder{.norms = weights.norms};
    for (const PartRow& row : part_rows()) {
      const size_t g = static_cast<size_t>(row.part);
      Tap output;
      if (!chosen_.kv.empty() && g == 0)
        output = [&](Worker& w, const Rows& y) {
          if (!pass->samples || !chosen_.kv.contains(pass->numbers[index[w.id()]])) return;
          const Rows k = {y.x + q, y.ld, y.m};
          if (as_the_tool_)
            keys.observe(w, k);
          else
            keys.observe_rotated(w, k, pass->stream->angles());
          values.observe(w, {k.x + kv, y.ld, y.m});
        };
      const bool last = g + 1 == probes.size();
      decoder.part(row.part) = std::make_unique<TapLinear>(
          shared(pack_float(std::as_const(weights).of(row.part), team_), run_.ranks),
          [&, g, last](Worker& w, const Rows& x) {
            size_t& own = index[w.id()];
            probes[g].observe(w, x, chosen_, pass->batch(own));
            own += last;
          },
          std::move(output));
    }
    for (Batches& p : passes_) {
      pass = &p;
      std::fill(index.begin(), index.end(), size_t{0});
      p.stream->run_layer(decoder);
    }
    auto& scales = result_.smoothing.emplace_back(probes.size());
    for (const PartRow& row : part_rows()) {
      const size_t g = static_cast<size_t>(row.part);
      scales[g] = scale_of(row, weights, probes[g]);
      report(layer, row.part, probes[g], scales[g]);
      probes[g] = {};
    }
    std::vector<float> key_scale;
    if (method_.key_smooth) {
      if (method_.key_smooth->attention.takes(layer_prefix(layer) + "self_attn"))
        key_scale = keys.key_scale(method_.key_smooth->power);
      result_.keys.push_back(key_scale);
    }
    if (kv_cache_)
      result_.kv.push_back(
          {keys.scale(key_scale), values.scale(source_scale(scales[1], kv, config_))});
  }

  std::vector<float> scale_of(const PartRow& row, const FloatLayer& weights,
                              const GroupProbe& probe) {
    if (!probe.stats) return {};
    SmoothTarget target{*probe.stats, weights.of(row.part)};
    if (row.part == LayerPart::kO) {
      target.heads = static_cast<size_t>(config_.heads);
      target.group_heads = static_cast<size_t>(config_.heads / config_.kv_heads);
    }
    std::vector<float> scale = suppression_->scale(target, team_);
    if (stored_ != DType::kF32 && row.norm)
      make_representable(weights.norms[*row.norm], stored_, scale);
    return scale;
  }

  void report(int64_t layer, LayerPart part, const GroupProbe& probe,
              const std::vector<float>& scale) {
    const double score = !chosen_.score.empty() ? probe.score(scale, as_the_tool_) : 0;
    const double threshold = probe.quantiles ? probe.quantiles->score() : 0;
    for (const std::string& name : linear_names(layer, part)) {
      if (!chosen_.score.empty()) result_.scores.push_back({name, score});
      if (is_candidate(name)) result_.threshold_scores.push_back({name, threshold});
    }
  }

  void measure_head() {
    const bool candidate = is_candidate(kHead);
    if (chosen_.score.empty() && !candidate) return;
    GroupProbe probe;
    probe.k = static_cast<size_t>(config_.hidden_size);
    if (candidate) probe.quantiles.emplace();
    for (Batches& p : passes_) {
      std::vector<size_t> index(team_.size());
      p.stream->tap(model_.final_norm(), [&](Worker& w, const Rows& x) {
        probe.observe(w, x, chosen_, p.batch(index[w.id()]++));
      });
    }
    if (!chosen_.score.empty()) result_.scores.push_back({kHead, probe.score({}, as_the_tool_)});
    if (candidate) result_.threshold_scores.push_back({kHead, probe.quantiles->score()});
  }

  const FloatModel& model_;
  const ModelConfig& config_;
  const ToolMethod& method_;
  bool kv_cache_, as_the_tool_;
  const RunContext& run_;
  ThreadTeam& team_;
  DType stored_;
  std::unique_ptr<OutlierMethod> suppression_;
  BatchChoice chosen_;
  std::vector<std::string> candidates_;
  std::vector<Batches> passes_;
  Analysis result_;
};

}  // namespace

double Analysis::score(const std::string& name) const {
  for (const LinearScore& s : scores)
    if (s.name == name) return s.score;
  OCTET_CHECK(false);
}

bool needs_analysis(const ToolMethod& method, const OutputSettings& output) {
  return learns_from_outliers(method) || needs_scores(method) || method.key_smooth ||
         output.quantize_kv_cache;
}

Analysis analyze(const FloatModel& model, const CalibrationData& data, const ToolMethod& method,
                 const OutputSettings& output, const RunContext& run, Progress& progress) {
  return Analyzer(model, data, method, output, run).run(progress);
}

void smooth_layer(const Analysis& analysis, int64_t layer, const ModelConfig& config, DType stored,
                  FloatLayer& weights) {
  const auto& scales = analysis.smoothing[static_cast<size_t>(layer)];
  for (size_t g = 0; g < scales.size(); ++g) {
    const PartRow& row = part_rows()[g];
    if (scales[g].empty()) continue;
    fuse(scales[g], row.part, config, weights);
    if (!row.norm) continue;
    round_all(weights.norms[*row.norm].weight, stored, source_name(layer, row.part) + ".weight");
  }
  if (analysis.keys.empty()) return;
  const std::vector<float>& keys = analysis.keys[static_cast<size_t>(layer)];
  if (!keys.empty()) scale_keys(keys, config, weights);
}

}  // namespace octet
