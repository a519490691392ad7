// The report on a quantization as one self-contained HTML page, made of quantization_report.json
// (docs/formats.md) alone.
#pragma once

#include <string>

#include "src/base/json.h"

namespace octet {

inline constexpr const char* kReportPage = "quantization_report.html";

// The same report gives the same page. Throws Error naming `where` when something is missing in it.
std::string report_page(const ordered_json& report, const std::string& where);

}  // namespace octet
