// What the command lines of `octet quantize` calibrate on.
#include <fmt/format.h>

#include <optional>

#include "src/base/error.h"
#include "src/cli/quantize_flags.h"
#include "src/quant/settings/calibration_data.h"

namespace octet::cli {

namespace {

std::vector<std::string> calibration_texts(const QuantizeFlags& f, bool as_msmodelslim) {
  if (!f.calib_file.empty()) {
    if (!f.calib_texts.empty()) notice("--calib_texts has no effect: there is a --calib_file");
    return as_msmodelslim ? read_calibration_texts_as_msmodelslim(f.calib_file)
                          : read_calibration_texts(f.calib_file);
  }
  return f.calib_texts.empty() ? builtin_texts() : f.calib_texts;
}

}  // namespace

std::vector<std::string> builtin_texts(const std::string& why) {
  std::vector<std::string> texts = builtin_calibration_texts();
  notice(
      fmt::format("{}: calibrating on {} built-in texts; text like what the model will read is "
                  "better",
                  why, texts.size()));
  return texts;
}

bool is_none(const std::string& calib_file) { return to_lower(calib_file) == "none"; }

std::vector<TokenBatch> one_each(std::vector<std::vector<int32_t>> samples) {
  std::vector<TokenBatch> batches;
  for (std::vector<int32_t>& ids : samples) batches.push_back({std::move(ids)});
  return batches;
}

void note_calibration(const CalibrationData& data, const QuantizeOptions& o) {
  if (data.samples.empty() && data.outlier.empty() && !needs_samples(o, /*outlier=*/false))
    notice("data-free: no calibration text needed");
  if (!data.samples.empty() && calibrates_on_little(data, learns_ranges(o)))
    warning(fmt::format("{} tokens calibrate static ranges; text of at least {} is advised",
                        calibration_tokens(data), kAdvisedTokens));
}

bool data_free(const QuantizeFlags& f) { return is_none(f.calib_file); }

CalibrationData calibration_data(const QuantizeFlags& f, const QuantizeOptions& o) {
  if (!f.calib_tokens.empty() && !(f.calib_file.empty() && f.calib_texts.empty()))
    throw usage_error("--calib_tokens: give it without --calib_file and --calib_texts");
  const ModelConfig config = ModelConfig::load(f.model_path);
  std::optional<text::Tokenizer> loaded;
  const auto tokenizer = [&]() -> const text::Tokenizer& {
    if (!loaded) loaded = text::Tokenizer::load(f.model_path, config.vocab_size);
    return *loaded;
  };
  // The tool takes every line at full length.
  const bool as_msmodelslim = is_msmodelslim_v0(o.output.layout);
  const size_t longest = as_msmodelslim ? SIZE_MAX : static_cast<size_t>(config.max_position);
  CalibrationData data;
  if (!needs_samples(o, /*outlier=*/!f.anti_calib_file.empty())) {
    for (const auto& [flag, given] :
         {std::pair("--calib_file", !f.calib_file.empty() && !data_free(f)),
          std::pair("--calib_texts", !f.calib_texts.empty()),
          std::pair("--calib_tokens", !f.calib_tokens.empty())})
      if (given) notice(fmt::format("{} has no effect: nothing is learnt from it", flag));
  } else if (!f.calib_tokens.empty()) {
    data.samples = one_each(read_calibration_tokens(f.calib_tokens));
    data.source = fs::path(f.calib_tokens).filename().string();
  } else if (!data_free(f)) {
    data.source = !f.calib_file.empty()   ? fs::path(f.calib_file).filename().string()
                  : f.calib_texts.empty() ? kBuiltinSource
                                          : "--calib_texts";
    data.samples =
        one_each(tokenize(calibration_texts(f, as_msmodelslim), data.source, tokenizer(), longest));
  }
  if (f.anti_calib_file.empty()) return data;
  if (o.layerwise() || !learns_from_outliers(o.tool())) {
    notice("--anti_calib_file has no effect without --anti_method or --disable_threshold");
    return data;
  }
  const OutlierTexts texts = read_outlier_texts(f.anti_calib_file, as_msmodelslim);
  data.outlier_source = fs::path(f.anti_calib_file).filename().string();
  // Padding would enter the statistics, as it does in the tool.
  data.outlier = as_msmodelslim
                     ? tokenize_padded(texts, data.outlier_source, tokenizer())
                     : one_each(tokenize(texts.all(), data.outlier_source, tokenizer(), longest));
  return data;
}

}  // namespace octet::cli
