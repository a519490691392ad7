// Quantization as msModelSlim does it: sample by sample through a model that is quantized already,
// with one outlier method and one kind of observer for all.
#pragma once

#include "src/quant/msmodelslim/analysis.h"
#include "src/quant/output/run_context.h"
#include "src/quant/settings/layer_choice.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

// Writes the checkpoint into run.files, from where run.journal stands. Returns what stayed in
// float.
KeptInFloat quantize_samplewise(const ModelFolder& folder, const CalibrationData& data,
                                const ToolMethod& method, const OutputSettings& output,
                                RunContext run);

}  // namespace octet
