// Calibration text as tokens, and how much there should be.
#pragma once

#include <string>
#include <vector>

#include "src/quant/layer/calibration_stream.h"

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

// Static ranges from fewer tokens do not hold for other text (docs/quantize.md has figures).
inline constexpr size_t kAdvisedTokens = 512;
// Whether there are fewer; `ranges`: the run may learn static ones (learns_ranges() in options.h).
bool calibrates_on_little(const CalibrationData& data, bool ranges);

}  // namespace octet
