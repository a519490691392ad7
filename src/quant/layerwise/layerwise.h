// Octet's own quantization: layer by layer, all calibration tokens at once, by a recipe. A float
// stream and a quantized stream run side by side, so that every choice knows both.
#pragma once

#include "src/quant/output/run_context.h"
#include "src/quant/settings/calibration.h"
#include "src/quant/settings/layer_choice.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/recipe.h"

namespace octet {

// Writes the checkpoint into run.files, from where run.journal stands. `recipe`: settled
// (options.h). Returns what stayed in float.
KeptInFloat quantize_layerwise(const ModelFolder& folder, const CalibrationData& data,
                               const Recipe& recipe, const OutputSettings& output, RunContext run);

}  // namespace octet
