#include "src/quant/settings/calibration.h"

namespace octet {

size_t calibration_tokens(const CalibrationData& data) {
  size_t tokens = 0;
  for (const TokenBatch& batch : data.samples)
    for (const std::vector<int32_t>& ids : batch) tokens += ids.size();
  return tokens;
}

bool needs_samples(const QuantizeOptions& o, bool outlier) {
  if (has_static_ranges(o) || o.output.quantize_kv_cache) return true;
  const ToolMethod& tool = o.tool();
  return needs_scores(tool) || tool.key_smooth || (learns_from_outliers(tool) && !outlier);
}

bool calibrates_on_little(const CalibrationData& data, const QuantizeOptions& o) {
  return (has_static_ranges(o) || o.output.quantize_kv_cache) &&
         calibration_tokens(data) < kAdvisedTokens;
}

}  // namespace octet
