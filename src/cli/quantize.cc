// `octet quantize`: by a recipe, or as msModelSlim's quant_llama.py and quant_qwen.py, flag by
// flag.
#include "src/cli/quantize.h"

#include <memory>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/cli/compared_models.h"
#include "src/cli/quantize_flags.h"

namespace octet::cli {
namespace {

void quantize_by_flags(QuantizeFlags& f, const Verb& verb) {
  settle_paths(f);
  verb.expect_companions();
  QuantizeOptions options = options_of(f);
  settle_by_folders(f.model_path, f.save_directory, options);
  const bool measures = !f.report_text.file.empty();
  if (measures) {
    if (is_msmodelslim_v0(options.output.layout))
      throw usage_error(
          "--report_text: --compat msmodelslim (which --mindie_format means) writes no report");
    // What is wrong with the text is to show before the work.
    encode_texts(f.report_text, tokenizer_of(f.model_path));
  }
  const CalibrationData data = calibration_data(f, options);
  note_calibration(data, options);
  f.run.quantize(f.model_path, f.save_directory, data, options,
                 [&](const fs::path& folder, ordered_json& report) {
                   if (measures)
                     report["measured"] =
                         measure(f.model_path, folder.string(), f.report_text, options.run.quiet);
                   write_report_page(folder, report);
                 });
}

}  // namespace

void add_quantize(Verb program) {
  const Verb verb = program.verb("quantize", "float checkpoint -> int8 checkpoint");
  auto f = std::make_shared<QuantizeFlags>();
  add_quantize_flags(verb, *f);
  add_quantize_quant(verb);
  verb.run([f, verb] { quantize_by_flags(*f, verb); });
}

}  // namespace octet::cli
