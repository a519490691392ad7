// Quantization as msModelSlim does it: sample by sample through a model that is quantized already,
// with one outlier method and one kind of observer for all.
#pragma once

#include "src/base/file.h"
#include "src/machine/thread_team.h"
#include "src/quant/analysis.h"
#include "src/quant/layer_choice.h"
#include "src/quant/options.h"
#include "src/quant/report_data.h"

namespace octet {

// Writes the checkpoint into `output`, which the caller commits. Returns what stayed in float.
// `report`, which may be null, is told of every linear.
KeptInFloat quantize_samplewise(const ModelFolder& folder, const CalibrationData& data,
                                const QuantizeOptions& options, OutputFolder& output,
                                ReportData* report, ThreadTeam& team);

}  // namespace octet
