// Octet's own quantization: layer by layer, all calibration tokens at once, by a recipe. A float
// stream and a quantized stream run side by side, so that every choice knows both.
#pragma once

#include "src/base/file.h"
#include "src/machine/thread_team.h"
#include "src/quant/analysis.h"
#include "src/quant/layer_choice.h"
#include "src/quant/options.h"
#include "src/quant/report_data.h"

namespace octet {

// Writes the checkpoint into `output`, which the caller commits. options.recipe must be there.
// Returns what stayed in float.
// `report`, which may be null, is told of every linear.
KeptInFloat quantize_layerwise(const ModelFolder& folder, const CalibrationData& data,
                               const QuantizeOptions& options, OutputFolder& output,
                               ReportData* report, ThreadTeam& team);

}  // namespace octet
