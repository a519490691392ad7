#include "src/quant/settings/calibration.h"

namespace octet {

size_t calibration_tokens(const CalibrationData& data) {
  size_t tokens = 0;
  for (const TokenBatch& batch : data.samples)
    for (const std::vector<int32_t>& ids : batch) tokens += ids.size();
  return tokens;
}

bool calibrates_on_little(const CalibrationData& data, bool ranges) {
  return ranges && calibration_tokens(data) < kAdvisedTokens;
}

}  // namespace octet
