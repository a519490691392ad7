// quantization_report.json: all that the report's page shows (docs/formats.md).
#pragma once

#include "src/quant/output/report_data.h"
#include "src/quant/output/summary.h"
#include "src/quant/settings/calibration.h"
#include "src/quant/settings/options.h"

namespace octet {

inline constexpr const char* kReportFile = "quantization_report.json";

// Of `source` quantized to `output`, a folder that is complete but for the report.
ordered_json report_json(const ModelFolder& source, const ModelFolder& output,
                         const CalibrationData& data, const QuantizeOptions& options,
                         const QuantizeSummary& summary, const ReportData& report);

}  // namespace octet
