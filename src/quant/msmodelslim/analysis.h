// The float pass over the calibration batches: what outlier suppression, layer choice and a static
// KV cache need.
#pragma once

#include <string>
#include <vector>

#include "src/base/progress.h"
#include "src/quant/int8/quantized_layer.h"
#include "src/quant/layer/float_model.h"
#include "src/quant/settings/calibration.h"
#include "src/quant/settings/layer_choice.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

struct RunContext;

struct Analysis {
  // Per layer and part: the smoothing scale [k] of the group's input; empty for
  // none.
  std::vector<std::vector<std::vector<float>>> smoothing;
  std::vector<LinearScore> scores;  // of every linear, in order of execution; empty if not needed
  std::vector<LinearScore> threshold_scores;  // QuantileScore of the threshold's candidates
  std::vector<KvCacheScales> kv;              // empty if not needed
  std::vector<std::vector<float>> keys;       // per layer, of scale_keys(); empty if not needed

  double score(const std::string& name) const;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(Analysis, smoothing, scores, threshold_scores, kv, keys)

// Whether the pass is needed at all.
bool needs_analysis(const ToolMethod& method, const OutputSettings& output);

// Streams the batches through the float layers, from where the journal's measuring pass stands.
// Scores and KV scales are those of the model after smoothing, threshold scores of the model as it
// is.
Analysis analyze(const FloatModel& model, const CalibrationData& data, const ToolMethod& method,
                 const OutputSettings& output, const RunContext& run, Progress& progress);

// Fuses the scales of one layer of `analysis`, those of keys last; norms are rounded to the stored
// dtype.
void smooth_layer(const Analysis& analysis, int64_t layer, const ModelConfig& config, DType stored,
                  FloatLayer& weights);

}  // namespace octet
