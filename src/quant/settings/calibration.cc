#include "src/quant/settings/calibration.h"

namespace octet {

size_t calibration_tokens(const CalibrationData& data) {
  size_t tokens = 0;
  for (const TokenBatch& batch : data.samples)
    for (const std::vector<int32_t>& ids : batch) tokens += ids.size();
  return tokens;
}

bool needs_scores(const QuantizeOptions& o) {
  return o.disable_level > 0 || (o.act_method == ActMethod::kAuto && has_static_input(o.scheme));
}

bool needs_samples(const QuantizeOptions& o, bool outlier) {
  const bool of_outliers = o.anti_method != AntiMethod::kNone || o.disable_threshold > 0;
  return has_static_ranges(o) || needs_scores(o) || o.quantize_kv_cache || o.key_smooth ||
         (of_outliers && !outlier);
}

bool calibrates_on_little(const CalibrationData& data, const QuantizeOptions& o) {
  return (has_static_ranges(o) || o.quantize_kv_cache) && calibration_tokens(data) < kAdvisedTokens;
}

}  // namespace octet
