// The flags of `octet quantize`, and what they ask for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/cli/compared_models.h"
#include "src/cli/quantize.h"

namespace octet::cli {

// What a flag of msModelSlim's way of quantizing concerns: a recipe of that way leaves all but the
// method to the flags; to other recipes names are of no interest, and the rest is a contradiction.
enum class Concerns { kMethod, kText, kNames, kFiles };
struct ToolFlag {
  Flag flag;
  Concerns concerns;
  std::string of_any_recipe;  // a value of it that goes with every recipe
};

// The flags as they were written.
struct QuantizeFlags {
  RunFlags run;
  std::string model, out;  // positional
  std::string model_path, save_directory;
  std::string recipe;
  std::optional<size_t> float_budget, dynamic_budget;
  TextFlags report_text{.flag = "--report-text"};
  std::vector<ToolFlag> of_tool;  // by what they concern
  std::string calib_file, calib_tokens, device_type = "cpu", anti_method, disable_level = "L0";
  std::vector<std::string> calib_texts, disable_names;
  int act_method = 1;
  double part_file_size = 0;
  bool disable_last_linear = true, mindie_format = false;
  bool trust_remote_code = false;
  int a_bit = 8;
  bool w_sym = true, is_dynamic = false, pdmix = false, use_kvcache_quant = false;
  double disable_threshold = 0;
  int64_t layer_count = 0;
  std::string anti_calib_file, model_name;
  std::string model_type, compat, tokenizer_args, input_ids_name, attention_mask_name;
};

void add_quantize_flags(const Verb& verb, QuantizeFlags& flags);
// The tool's flags for what Octet does not do.
void add_outside_flags(const Verb& verb);

// MODEL OUT, or the tool's --model_path and --save_directory. Throws kUsage Error.
void settle_paths(QuantizeFlags& flags);
// Throws kUsage Error for what contradicts itself; says which flags have no effect.
QuantizeOptions options_of(const QuantizeFlags& flags);
// `--calib_file none`: no calibration at all.
bool data_free(const QuantizeFlags& flags);
CalibrationData calibration_data(const QuantizeFlags& flags, const QuantizeOptions& options);

// The names of --anti_method, the one for none aside.
std::string anti_method_list(const std::string& separator);

}  // namespace octet::cli
