// The float pass over the calibration samples: what outlier suppression and layer choice need.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "src/base/progress.h"
#include "src/quant/float_layer.h"
#include "src/quant/layer_choice.h"
#include "src/quant/options.h"

namespace octet {

struct Analysis {
  // Per layer and group of input_groups(): the smoothing scale [k] of the group's input; empty for
  // none.
  std::vector<std::vector<std::vector<float>>> smoothing;
  std::vector<LinearScore> scores;  // of every linear, in order of execution; empty if not needed

  double score(const std::string& name) const;
};

// Whether the options ask for the pass at all.
bool needs_analysis(const QuantizeOptions& options);

// Streams the samples through the float layers. Scores are those of the model after smoothing.
Analysis analyze(const ModelFolder& folder, const std::vector<std::vector<int32_t>>& samples,
                 const QuantizeOptions& options, ThreadTeam& team, Progress& progress);

// norm / scale in the stored dtype, targets * scale, for one layer of `analysis`.
void smooth_layer(const Analysis& analysis, int64_t layer, DType stored, FloatLayer& weights);

}  // namespace octet
