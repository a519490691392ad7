// The float pass over the calibration batches: what outlier suppression, layer choice and a static
// KV cache need.
#pragma once

#include <string>
#include <vector>

#include "src/base/progress.h"
#include "src/quant/float_model.h"
#include "src/quant/layer_choice.h"
#include "src/quant/options.h"

namespace octet {

struct RunContext;

// Token ids, checked by the caller. `samples`: calibration, one sequence each. `outlier`: what
// outlier suppression and the threshold take their statistics from; empty = the samples. The
// sources say where they come from (a file's name, "built-in"), for the report.
struct CalibrationData {
  std::vector<TokenBatch> samples, outlier;
  std::string source = {}, outlier_source = {};
};
// Tokens of the samples.
size_t calibration_tokens(const CalibrationData& data);

// Whether a run learns anything from samples; `outlier`: outlier suppression and the threshold have
// texts of their own.
bool needs_samples(const QuantizeOptions& options, bool outlier);
// Static ranges from fewer tokens do not hold for other text (docs/quantize.md has figures).
inline constexpr size_t kAdvisedTokens = 512;
bool calibrates_on_little(const CalibrationData& data, const QuantizeOptions& options);

// Per layer: the scales of an int8 KV cache [kv_size].
struct KvCacheScales {
  std::vector<float> k, v;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(KvCacheScales, k, v)

struct Analysis {
  // Per layer and group of input_groups(): the smoothing scale [k] of the group's input; empty for
  // none.
  std::vector<std::vector<std::vector<float>>> smoothing;
  std::vector<LinearScore> scores;  // of every linear, in order of execution; empty if not needed
  std::vector<LinearScore> threshold_scores;  // QuantileScore of the threshold's candidates
  std::vector<KvCacheScales> kv;              // empty if not needed
  std::vector<std::vector<float>> keys;       // per layer, of scale_keys(); empty if not needed

  double score(const std::string& name) const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Analysis, smoothing, scores, threshold_scores, kv, keys)

// Whether the options ask for the pass at all.
bool needs_analysis(const QuantizeOptions& options);

// Streams the batches through the float layers, from where the journal's measuring pass stands.
// Scores and KV scales are those of the model after smoothing, threshold scores of the model as it
// is.
Analysis analyze(const FloatModel& model, const CalibrationData& data,
                 const QuantizeOptions& options, const RunContext& run, Progress& progress);

// Fuses the scales of one layer of `analysis`, those of keys last; norms are rounded to the stored
// dtype.
void smooth_layer(const Analysis& analysis, int64_t layer, const ModelConfig& config, DType stored,
                  FloatLayer& weights);

}  // namespace octet
