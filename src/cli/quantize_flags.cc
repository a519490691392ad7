#include "src/cli/quantize_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "src/quant/settings/model_type.h"

namespace octet::cli {
namespace {

// "m1 (SmoothQuant), m2 (...), ...".
std::string suppression_methods() {
  std::string words;
  for (const AntiMethodRow& row : anti_method_rows())
    if (row.method != AntiMethod::kNone)
      words += fmt::format("{}{} ({})", words.empty() ? "" : ", ", row.name, row.words);
  return words;
}

void add_paths_and_recipe(const Verb& verb, QuantizeFlags& f) {
  verb.text("MODEL", f.model, "folder of the float16 or bfloat16 checkpoint");
  verb.text("OUT", f.out, "folder to write");
  verb.text("--model-path", f.model_path, "MODEL, as msModelSlim spells it");
  verb.text("--save-directory", f.save_directory, "OUT, as msModelSlim spells it");
  verb.text("--recipe", f.recipe,
            "octet (the default of MODEL OUT), octet-fast, mindie, or a YAML file")
      .metavar("octet|octet-fast|mindie|FILE");
  verb.integer("--float-budget", f.float_budget,
               "recipe: at most so many linears in float beside the head");
  verb.integer("--dynamic-budget", f.dynamic_budget,
               "recipe: at most so many linears with scales per token; by itself: wherever it "
               "pays, but none in float16 models");
}

void add_texts(const Verb& verb, QuantizeFlags& f) {
  verb.text("--calib-file", f.calib_file,
            "calibration text: one JSON object a line with `inputs_pretokenized`; `none` = no "
            "calibration, for --is_dynamic and --a_bit 16")
      .metavar("FILE");
  verb.list("--calib-texts", f.calib_texts, "calibration texts, when there is no file");
  verb.text("--calib-tokens", f.calib_tokens, "token ids in place of text: [[1, 2], [3]]")
      .metavar("FILE");
  verb.text("--report-text", f.report_text.file,
            "measure KL and perplexity against MODEL on this text, for the report; both "
            "models are in memory then")
      .metavar("FILE");
  verb.integer("--report-passages", f.report_text.passages,
               "... on its first passages only; 0 = all")
      .only_with("--report-text");
}

// Those below with `tool` are flags of the tool's way of quantizing.
void tool(QuantizeFlags& f, Concerns concerns, const Flag& flag, std::string of_any_recipe = "") {
  f.of_tool.push_back({flag, concerns, std::move(of_any_recipe)});
}

void add_method(const Verb& verb, QuantizeFlags& f) {
  tool(f, Concerns::kMethod,
       verb.integer("--act-method", f.act_method,
                    "ranges of activations: 1 min-max, 2 histogram, 3 automatic")
           .one_of({"1", "2", "3"})
           .show_default());
  tool(f, Concerns::kMethod,
       verb.text("--anti-method", f.anti_method,
                 "outlier suppression: " + suppression_methods() + ", or nothing")
           .metavar(anti_method_list("|") + "|none")
           .or_nothing());
  tool(f, Concerns::kText,
       verb.text("--anti-calib-file", f.anti_calib_file,
                 "other calibration text for outlier suppression and --disable-threshold")
           .metavar("FILE")
           .or_nothing());
  tool(f, Concerns::kMethod,
       verb.integer("--a-bit", f.a_bit, "activations: 8, or 16 for int8 weights only (W8A16)")
           .one_of({"8", "16"})
           .show_default());
  tool(f, Concerns::kMethod,
       verb.boolean("--w-sym", f.w_sym, "symmetric weights; False with --a-bit 16 only"));
  tool(f, Concerns::kMethod,
       verb.boolean("--is-dynamic", f.is_dynamic,
                    "ranges of activations per token at run time (W8A8_DYNAMIC)"));
  tool(f, Concerns::kMethod,
       verb.boolean("--pdmix", f.pdmix, "dynamic prefill, static decode (W8A8_MIX)"));
  verb.boolean("--use-kvcache-quant", f.use_kvcache_quant, "static int8 KV cache (C8)");
}

void add_kept_in_float(const Verb& verb, QuantizeFlags& f) {
  tool(f, Concerns::kMethod,
       verb.text("--disable-level", f.disable_level,
                 "LN: keep the N linears with the hardest inputs in float")
           .show_default());
  verb.list("--disable-names", f.disable_names,
            "linears to keep in float, by full name; `none` = not even the model type's "
            "defaults")
      .or_nothing();
  tool(f, Concerns::kMethod,
       verb.number("--disable-threshold", f.disable_threshold,
                   "above 0: of the linears kept in float by name, keep those with a higher score")
           .show_default());
  tool(f, Concerns::kNames,
       verb.integer("--layer-count", f.layer_count,
                    "layers that the model type's defaults cover; 0 = all")
           .show_default());
  tool(f, Concerns::kNames,
       verb.text("--model-type", f.model_type,
                 fmt::format("whose defaults: {}; from config.json if absent", model_type_list())));
  verb.boolean("--disable-last-linear", f.disable_last_linear, "keep lm_head in float");
}

void add_device_and_files(const Verb& verb, QuantizeFlags& f) {
  verb.text("--device-type", f.device_type, "cpu").show_default();
  verb.number("--part-file-size", f.part_file_size, "largest weight file in GB; 0 = one file");
  tool(f, Concerns::kFiles,
       verb.text("--compat", f.compat,
                 "msmodelslim: write exactly what msModelSlim v0 writes on a CPU; msmodelslim_v1: "
                 "files named and laid out as v1's")
           .one_of({"msmodelslim", "msmodelslim_v1"}),
       /*of_any_recipe=*/"msmodelslim_v1");
  tool(f, Concerns::kFiles,
       verb.toggle("--mindie-format", f.mindie_format,
                   "--compat msmodelslim in the tool's older layout"));
}

void add_without_effect(const Verb& verb, QuantizeFlags& f) {
  verb.text("--tokenizer-args", f.tokenizer_args, "JSON; padding_side, pad_token");
  verb.text("--model-name", f.model_name, "accepted; has no meaning here");
  verb.text("--input-ids-name", f.input_ids_name, "accepted; has no meaning here");
  verb.text("--attention-mask-name", f.attention_mask_name, "accepted; has no meaning here");
  verb.boolean("--trust-remote-code", f.trust_remote_code,
               "accepted; no code of a model folder is ever run");
}

}  // namespace

void add_quantize_flags(const Verb& verb, QuantizeFlags& f) {
  add_paths_and_recipe(verb, f);
  add_texts(verb, f);
  add_method(verb, f);
  add_kept_in_float(verb, f);
  add_device_and_files(verb, f);
  f.run.add_to(verb);
  add_without_effect(verb, f);
  add_outside_flags(verb);
  // What contradicts a recipe is named in this order.
  std::ranges::stable_sort(f.of_tool, {}, &ToolFlag::concerns);
}

std::string anti_method_list(const std::string& separator) {
  std::string names;
  for (const AntiMethodRow& row : anti_method_rows())
    if (row.method != AntiMethod::kNone) names += (names.empty() ? "" : separator) + row.name;
  return names;
}

}  // namespace octet::cli
