// What the command lines of `octet quantize` share.
#pragma once

#include <string>
#include <vector>

#include "src/cli/cli.h"
#include "src/cli/flags.h"
#include "src/quant/quantizer.h"
#include "src/text/tokenizer.h"

namespace octet::cli {

// `octet quantize quant`: the command of msModelSlim v1, below `quantize`.
void add_quantize_quant(const Verb& quantize);

// Throws for every device but the CPU; `flag` is its option's name.
void check_device(const char* flag, const std::string& device);
// --trust_remote_code, which changes nothing, says so.
void note_remote_code(bool trusted);
// What a report calls the built-in calibration texts.
inline constexpr const char* kBuiltinSource = "built-in";
// These texts, with a note on `why` they are taken and that there are better ones.
std::vector<std::string> builtin_texts(const std::string& why = "no --calib_file");
// Whether --calib_file has the word that stands for no calibration at all.
bool is_none(const std::string& calib_file);
// A batch for every sample.
std::vector<TokenBatch> one_each(std::vector<std::vector<int32_t>> samples);
// Says that a run needs no calibration, or has too little of it.
void note_calibration(const CalibrationData& data, const QuantizeOptions& options);
// quantization_report.html from what quantization_report.json will hold.
void write_report_page(const fs::path& folder, const ordered_json& report);
// What a run does with the machine and with what an earlier one left.
struct RunFlags {
  bool overwrite = false, resume = false, quiet = false;
  std::string memory_limit;
  size_t ranks = 1;

  void add_to(const Verb& verb);
  RunSettings settings() const;  // throws kUsage Error
  // Quantizes, on as many ranks as there are to be, and prints the table.
  void quantize(const std::string& model, const std::string& target, const CalibrationData& data,
                const QuantizeOptions& options, const Finish& finish) const;
};
// Before any work: refuses an output that cannot be written and a model that cannot be quantized,
// settles what `options` leaves to the model, and shows the notes on them. Throws Error.
void settle_by_folders(const std::string& model, const std::string& target,
                       QuantizeOptions& options);
// Warns of groups of linears that loaders refuse because some of them are in float.
void warn_of_cut_groups(const QuantizeSummary& summary);
// The table at the end.
void print_summary(const QuantizeSummary& summary, const std::string& target);

}  // namespace octet::cli
