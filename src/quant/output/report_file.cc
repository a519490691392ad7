#include "src/quant/output/report_file.h"

#include <cmath>

#include "src/quant/output/fingerprint.h"

namespace octet {
namespace {

// How it was made: the recipe or the practice where there is one, the settings of msModelSlim's
// way.
ordered_json method_of(const QuantizeOptions& o) {
  ordered_json method = {{"name", "msmodelslim"}};
  if (const std::optional<Recipe> recipe = o.whole_recipe()) {
    method["name"] = recipe->name;
    method["recipe"] = to_yaml(*recipe);
  }
  if (const PracticeYaml* practice = o.practice()) {
    method["name"] = "practice of msModelSlim v1";
    method["practice"] = practice->text;
  } else if (!o.layerwise()) {
    const ToolMethod& tool = o.tool();
    method["settings"] = {{"type", scheme_name(tool.scheme)},
                          {"act_method", static_cast<int>(tool.act_method)},
                          {"anti_method", anti_method_name(tool.anti_method)},
                          {"disable_level", disable_level_name(tool.disable_level)},
                          {"disable_threshold", tool.disable_threshold},
                          {"w_sym", !tool.asymmetric_weights},
                          {"use_kvcache_quant", o.output.quantize_kv_cache}};
  }
  if (!o.notes.empty()) method["notes"] = o.notes;
  return method;
}

ordered_json calibration_of(const CalibrationData& data, const QuantizeOptions& o) {
  ordered_json c = {{"samples", data.samples.size()}, {"tokens", calibration_tokens(data)}};
  const auto trace = [&](const std::string& prefix, const std::vector<TokenBatch>& batches,
                         const std::string& source) {
    if (!source.empty()) c[prefix + "source"] = source;
    c[prefix + "hash"] = tokens_hash(batches);
  };
  if (!data.samples.empty()) trace("", data.samples, data.source);
  if (!data.outlier.empty()) {
    c["outlier_batches"] = data.outlier.size();
    trace("outlier_", data.outlier, data.outlier_source);
  }
  if (calibrates_on_little(data, learns_ranges(o))) c["advised_tokens"] = kAdvisedTokens;
  return c;
}

ordered_json sizes_of(const QuantizeSummary& s) {
  ordered_json rows = ordered_json::array();
  for (const SummaryRow& r : s.rows)
    rows.push_back({{"role", r.role},
                    {"type", r.type},
                    {"count", r.count},
                    {"before", r.bytes_before},
                    {"after", r.bytes_after}});
  return {{"before", s.bytes_before}, {"after", s.bytes_after}, {"rows", rows}};
}

}  // namespace

ordered_json report_json(const ModelFolder& source, const ModelFolder& output,
                         const CalibrationData& data, const QuantizeOptions& options,
                         const QuantizeSummary& summary, const ReportData& report) {
  const ModelConfig& c = source.config();
  const fs::path name = fs::absolute(source.path()).lexically_normal();
  ordered_json out = {
      {"version", 1},
      {"octet", program_version()},
      {"model",
       {{"name", (name.has_filename() ? name : name.parent_path()).filename().string()},
        {"model_type", c.model_type()},
        {"dtype", config_dtype_name(c.dtype)},
        {"layers", c.layers},
        {"hidden_size", c.hidden_size},
        {"intermediate_size", c.intermediate_size},
        {"heads", c.heads},
        {"kv_heads", c.kv_heads},
        {"vocab_size", c.vocab_size}}},
      {"type", output.type_words()},
      {"method", method_of(options)},
      {"calibration", calibration_of(data, options)},
      {"seconds", std::round(summary.seconds * 10) / 10},
      {"size", sizes_of(summary)}};
  if (const int64_t grown = output.config().intermediate_size; grown != c.intermediate_size)
    out["model"]["written_intermediate_size"] = grown;
  out.update(report.json(summary.kept));
  return out;
}

}  // namespace octet
