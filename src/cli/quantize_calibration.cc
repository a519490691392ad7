// What the command lines of `octet quantize` calibrate on.
#include <fmt/format.h>

#include "src/cli/quantize.h"
#include "src/quant/settings/calibration_data.h"

namespace octet::cli {

std::vector<std::string> builtin_texts(const std::string& why) {
  std::vector<std::string> texts = builtin_calibration_texts();
  notice(
      fmt::format("{}: calibrating on {} built-in texts; text like what the model will read is "
                  "better",
                  why, texts.size()));
  return texts;
}

bool is_none(const std::string& calib_file) { return CLI::detail::to_lower(calib_file) == "none"; }

std::vector<TokenBatch> one_each(std::vector<std::vector<int32_t>> samples) {
  std::vector<TokenBatch> batches;
  for (std::vector<int32_t>& ids : samples) batches.push_back({std::move(ids)});
  return batches;
}

void note_calibration(const CalibrationData& data, const QuantizeOptions& o) {
  if (data.samples.empty() && data.outlier.empty() && !needs_samples(o, /*outlier=*/false))
    notice("data-free: no calibration text needed");
  if (!data.samples.empty() && calibrates_on_little(data, o))
    warning(fmt::format("{} tokens calibrate static ranges; text of at least {} is advised",
                        calibration_tokens(data), kAdvisedTokens));
}

}  // namespace octet::cli
