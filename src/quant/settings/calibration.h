// Calibration text as tokens, and what a run learns from it.
#pragma once

#include <string>
#include <vector>

#include "src/quant/layer/calibration_stream.h"
#include "src/quant/settings/options.h"

namespace octet {

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

}  // namespace octet
