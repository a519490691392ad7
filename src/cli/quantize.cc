// `octet quantize`: by a recipe, or as msModelSlim's quant_llama.py and quant_qwen.py, flag by
// flag.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <optional>
#include <regex>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/cli/compared_models.h"
#include "src/cli/quantize.h"
#include "src/eval/report_page.h"
#include "src/quant/settings/calibration_data.h"
#include "src/quant/output/report_file.h"

namespace octet::cli {
namespace {

// The flags of msModelSlim's way of quantizing, and what a recipe of that way leaves to them.
enum class Concerns { kMethod, kText, kNames, kFiles };
struct ToolFlag {
  const char* name;
  Concerns concerns;
};
constexpr std::array<ToolFlag, 13> kToolFlags = {{{"--act-method", Concerns::kMethod},
                                                  {"--anti-method", Concerns::kMethod},
                                                  {"--a-bit", Concerns::kMethod},
                                                  {"--w-sym", Concerns::kMethod},
                                                  {"--is-dynamic", Concerns::kMethod},
                                                  {"--pdmix", Concerns::kMethod},
                                                  {"--disable-level", Concerns::kMethod},
                                                  {"--disable-threshold", Concerns::kMethod},
                                                  {"--anti-calib-file", Concerns::kText},
                                                  {"--layer-count", Concerns::kNames},
                                                  {"--model-type", Concerns::kNames},
                                                  {"--compat", Concerns::kFiles},
                                                  {"--mindie-format", Concerns::kFiles}}};

// The flags as they were written.
struct Flags {
  RunFlags run;
  std::string model, out;  // positional
  std::string model_path, save_directory;
  std::string recipe;
  std::optional<size_t> float_budget, dynamic_budget;
  TextFlags report_text{.flag = "--report-text"};
  std::vector<ToolFlag> asking;  // those given whose value is not the tool's default
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

// Flags of the tool for other kinds of quantization: only the value that means none is accepted.
struct Outside {
  const char* name;
  const char* only;  // the one value that is accepted
  const char* what;
};
constexpr std::array<Outside, 10> kOutside = {{
    {"--w-bit", "8", "weight bits"},
    {"--co-sparse", "False", "sparse quantization"},
    {"--is-lowbit", "False", "low-bit quantization"},
    {"--do-smooth", "False", "low-bit: smoothing"},
    {"--use-sigma", "False", "low-bit: sigma outliers"},
    {"--open-outlier", "True", "low-bit: weight outliers"},
    {"--use-reduce-quant", "False", "quantized all-reduce"},
    {"--use-fa-quant", "False", "int8 attention"},
    {"--w-method", "MinMax", "weight rounding of low-bit types; msModelSlim refuses it for W8A8"},
    {"--mm-tensor", "True", "per-tensor weights (the tool ignores it and works per channel)"},
}};

// Parameters of these: without them they change nothing in the tool either.
struct Parameter {
  const char* name;
  double usual;
  const char* of;
};
constexpr std::array<Parameter, 5> kParameters = {{
    {"--fraction", 0.01, "sparse quantization"},
    {"--sigma-factor", 3, "low-bit quantization"},
    {"--group-size", 64, "low-bit quantization"},
    {"--tp-size", 1, "quantized all-reduce"},
    {"--fa-amp", 0, "int8 attention"},
}};

bool same_value(const std::string& given, const std::string& only) {
  const auto lower = [](std::string s) {
    for (char& c : s) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return s;
  };
  if (lower(given) == lower(only)) return true;
  char *end_a = nullptr, *end_b = nullptr;
  const double a = std::strtod(given.c_str(), &end_a), b = std::strtod(only.c_str(), &end_b);
  return !given.empty() && !only.empty() && *end_a == 0 && *end_b == 0 && a == b;
}

void add_outside(CLI::App* app) {
  constexpr const char* kOutsideGroup = "Of msModelSlim, for what Octet does not do";
  for (const Outside& flag : kOutside) {
    const auto check = [flag](const std::string& value) {
      const bool word = std::string(flag.only) == "True" || std::string(flag.only) == "False";
      if (word && !same_value(value, "True") && !same_value(value, "False"))
        return fmt::format("expected True or False, found {}", value);
      // --mm-tensor False is what the tool does whatever one says.
      if (same_value(value, flag.only) ||
          (std::string(flag.name) == "--mm-tensor" && same_value(value, "False")))
        return std::string();
      return fmt::format("{} {} ({}) is outside of what Octet does, which is W8A8 and W8A16",
                         flag.name, value, flag.what);
    };
    app->add_option_function<std::string>(
           flag.name, [](const std::string&) {}, flag.what)
        ->check(CLI::Validator(check, fmt::format("only {}", flag.only)))
        ->group(kOutsideGroup);
  }
  for (const Parameter& parameter : kParameters)
    app->add_option_function<double>(
           parameter.name,
           [parameter](double value) {
             if (value != parameter.usual)
               notice(fmt::format("{} has no effect: it is a parameter of {}, which is off",
                                  parameter.name, parameter.of));
           },
           fmt::format("accepted; a parameter of {}", parameter.of))
        ->group(kOutsideGroup);
}

AntiMethod parse_method(const std::string& s) {
  if (const auto method = parse_anti_method(s == "none" ? "" : s)) return *method;
  throw Error("unknown outlier suppression", ErrorKind::kUsage)
      .field("--anti_method")
      .expected("m1, m2, m3, m4, m5, m6 or nothing")
      .found(s);
}

Scheme parse_scheme_flags(const Flags& f) {
  if (f.is_dynamic + f.pdmix + (f.a_bit == 16) > 1)
    throw usage_error("--is_dynamic True, --pdmix True and --a_bit 16 exclude each other");
  if (f.a_bit == 16) return Scheme::kW8A16;
  return f.is_dynamic ? Scheme::kW8A8Dynamic : f.pdmix ? Scheme::kW8A8Mix : Scheme::kW8A8;
}

size_t parse_level(const std::string& s) {
  static const std::regex form("L(0|[1-9][0-9]{0,8})");
  std::smatch match;
  if (!std::regex_match(s, match, form))
    throw Error("no level", ErrorKind::kUsage)
        .field("--disable_level")
        .expected("L0, L1, L2, ...")
        .found(s);
  return std::stoul(match[1]);
}

// The tool's tokenizer arguments: those that change nothing for samples of one text are taken.
void check_tokenizer_args(const std::string& s) {
  if (s.empty()) return;
  const json args = flag_json(s, "--tokenizer_args", json::value_t::object);
  for (const auto& [key, value] : args.items())
    if (key != "padding_side" && key != "pad_token" && key != "eos_token")
      throw Error("this tokenizer argument is not supported", ErrorKind::kUsage)
          .field("--tokenizer_args")
          .expected("padding_side, pad_token (samples are never padded, so they change nothing)")
          .found(key);
}

// `--calib_file none`: no calibration at all.
bool data_free(const Flags& f) { return is_none(f.calib_file); }

// Flags that are taken and change nothing say so.
void note_flags_without_effect(const Flags& f) {
  if (!f.tokenizer_args.empty()) notice("--tokenizer_args has no effect: samples are never padded");
  if (!f.input_ids_name.empty() || !f.attention_mask_name.empty())
    notice(
        "--input_ids_name and --attention_mask_name have no effect: there is no such dictionary");
  if (!f.model_name.empty())
    notice("--model_name has no effect: the only name that msModelSlim heeds is baichuan");
  if (f.mindie_format && f.compat.empty())
    notice(
        "--mindie_format: files and arithmetic of --compat msmodelslim; without it the output is "
        "what MindIE and vLLM-Ascend both load");
  if (data_free(f) && f.disable_level != "L0")
    notice("--disable_level has no effect without calibration text");
  note_remote_code(f.trust_remote_code);
}

void find_tool_flags(const CLI::App* app, Flags& f) {
  for (const ToolFlag& flag : kToolFlags) {
    const CLI::Option* option = app->get_option(flag.name);
    // A layout, which any recipe can have.
    if (option->count() == 0 || (option->check_name("--compat") && f.compat == "msmodelslim_v1"))
      continue;
    if (!same_value(option->results().back(), option->get_default_str())) f.asking.push_back(flag);
  }
}

// MODEL OUT, or the tool's --model_path and --save_directory.
void settle_paths(Flags& f) {
  const auto settle = [](const std::string& positional, std::string& flag, const char* names) {
    if (positional.empty() == flag.empty()) throw usage_error(fmt::format("give one of {}", names));
    if (flag.empty()) flag = positional;
  };
  settle(f.model, f.model_path, "MODEL and --model_path");
  settle(f.out, f.save_directory, "OUT and --save_directory");
}

// `octet quantize MODEL OUT` takes the recipe octet; flags that want something of the tool's way,
// which its defaults do not, take that way.
void choose_recipe(const Flags& f, QuantizeOptions& o) {
  const bool budgets = f.float_budget || f.dynamic_budget;
  const bool asks = std::ranges::any_of(
      f.asking, [](const ToolFlag& flag) { return flag.concerns != Concerns::kNames; });
  std::string name = f.recipe;
  if (name.empty() && (budgets || (!f.model.empty() && !asks))) name = "octet";
  if (name.empty()) return;
  Recipe recipe = load_recipe(name);
  const bool tools_way = recipe.find<MsModelSlim>() != nullptr;
  for (const ToolFlag& flag : f.asking) {
    if (tools_way && flag.concerns != Concerns::kMethod) continue;
    if (flag.concerns != Concerns::kNames)
      throw usage_error(
          fmt::format("{} belongs to msModelSlim's way of quantizing, and a recipe "
                      "says itself what to do: give one of them",
                      flag.name));
    notice(fmt::format(
        "{} has no effect: with the recipe {} no linear stays in float by the model type's list",
        flag.name, recipe.name));
  }
  if (budgets && tools_way)
    throw usage_error(fmt::format(
        "--float_budget and --dynamic_budget: not of the recipe {}, which is msModelSlim's way",
        recipe.name));
  if (f.use_kvcache_quant) recipe.get<QuantizeKvCache>();
  if (f.float_budget)
    recipe.get<ChooseTypes>().float_budget = static_cast<int64_t>(*f.float_budget);
  if (f.dynamic_budget)
    recipe.get<ChooseTypes>().dynamic_budget = static_cast<int64_t>(*f.dynamic_budget);
  o.take_recipe(std::move(recipe));
}

QuantizeOptions options_of(const Flags& f) {
  check_device("--device_type", f.device_type);
  check_tokenizer_args(f.tokenizer_args);
  QuantizeOptions o;
  o.act_method = static_cast<ActMethod>(f.act_method);
  o.scheme = parse_scheme_flags(f);
  o.asymmetric_weights = !f.w_sym;
  o.quantize_kv_cache = f.use_kvcache_quant;
  o.anti_method = parse_method(f.anti_method);
  if (!(f.disable_threshold >= 0)) throw usage_error("--disable_threshold: expected a number >= 0");
  o.disable_threshold = f.disable_threshold;
  if (f.layer_count < 0) throw usage_error("--layer_count: expected a number >= 0");
  o.layer_count = f.layer_count;
  o.disable_level = parse_level(f.disable_level);
  if (data_free(f)) o.disable_level = 0;  // scores are learnt from text
  if (f.disable_names == std::vector<std::string>{"none"}) {
    o.disable_names.emplace();
  } else if (!f.disable_names.empty() && f.disable_names != std::vector<std::string>{""}) {
    o.disable_names = f.disable_names;
  }
  o.model_type = f.model_type;
  o.disable_last_linear = f.disable_last_linear;
  o.compat_msmodelslim = f.compat == "msmodelslim" || f.mindie_format;
  o.mindie_format = f.mindie_format;
  o.v1_files = f.compat == "msmodelslim_v1";
  if (o.mindie_format && o.v1_files)
    throw usage_error(
        "--mindie_format is a layout of msModelSlim v0: give it or --compat msmodelslim_v1");
  if (!(f.part_file_size >= 0 && f.part_file_size < 1e6))
    throw usage_error("--part_file_size: expected a size in GB; 0 = one file");
  o.part_bytes = static_cast<uint64_t>(f.part_file_size * (1 << 30));
  f.run.apply(o);
  choose_recipe(f, o);
  note_flags_without_effect(f);
  return o;
}

std::vector<std::string> calibration_texts(const Flags& f, bool as_msmodelslim) {
  if (!f.calib_file.empty()) {
    if (!f.calib_texts.empty()) notice("--calib_texts has no effect: there is a --calib_file");
    return as_msmodelslim ? read_calibration_texts_as_msmodelslim(f.calib_file)
                          : read_calibration_texts(f.calib_file);
  }
  return f.calib_texts.empty() ? builtin_texts() : f.calib_texts;
}

CalibrationData calibration_data(const Flags& f, const QuantizeOptions& o) {
  if (!f.calib_tokens.empty() && !(f.calib_file.empty() && f.calib_texts.empty()))
    throw usage_error("--calib_tokens: give it without --calib_file and --calib_texts");
  std::optional<text::Tokenizer> loaded;
  const auto tokenizer = [&]() -> const text::Tokenizer& {
    if (!loaded) loaded = text::Tokenizer::load(f.model_path);
    return *loaded;
  };
  // The tool takes every line at full length.
  const size_t longest = o.compat_msmodelslim
                             ? SIZE_MAX
                             : static_cast<size_t>(ModelConfig::load(f.model_path).max_position);
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
    data.samples =
        one_each(tokenize(calibration_texts(f, o.compat_msmodelslim), tokenizer(), longest));
    data.source = !f.calib_file.empty()   ? fs::path(f.calib_file).filename().string()
                  : f.calib_texts.empty() ? kBuiltinSource
                                          : "--calib_texts";
  }
  if (f.anti_calib_file.empty()) return data;
  if (o.anti_method == AntiMethod::kNone && o.disable_threshold == 0) {
    notice("--anti_calib_file has no effect without --anti_method or --disable_threshold");
    return data;
  }
  const OutlierTexts texts = read_outlier_texts(f.anti_calib_file, o.compat_msmodelslim);
  data.outlier_source = fs::path(f.anti_calib_file).filename().string();
  // Padding would enter the statistics, as it does in the tool.
  data.outlier = o.compat_msmodelslim ? tokenize_padded(texts, tokenizer())
                                      : one_each(tokenize(texts.all(), tokenizer(), longest));
  return data;
}

}  // namespace

void check_device(const char* flag, const std::string& s) {
  if (s == "cpu") return;
  if (s.starts_with("npu"))
    throw Error("there is no NPU here: this program computes on CPUs", ErrorKind::kUsage)
        .field(flag)
        .expected("cpu")
        .found(s)
        .remedy(fmt::format("use {} cpu; the checkpoint is the same and loads on NPUs", flag));
  throw Error("unknown device", ErrorKind::kUsage).field(flag).expected("cpu").found(s);
}

void note_remote_code(bool trusted) {
  if (trusted) notice("--trust_remote_code has no effect: no code of a model folder is ever run");
}

void settle_by_model(const std::string& model, QuantizeOptions& options) {
  settle(options, ModelFolder(model).config().dtype);
  for (const std::string& note : options.notes) notice(note);
}

void write_report_page(const fs::path& folder, const ordered_json& report) {
  write_text(folder / kReportPage, report_page(report, kReportFile));
}

void add_quantize(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("quantize", "float checkpoint -> int8 checkpoint");
  auto f = std::make_shared<Flags>();
  sub->add_option("MODEL", f->model, "folder of the float16 or bfloat16 checkpoint");
  sub->add_option("OUT", f->out, "folder to write");
  sub->add_option("--model-path", f->model_path, "MODEL, as msModelSlim spells it");
  sub->add_option("--save-directory", f->save_directory, "OUT, as msModelSlim spells it");
  sub->add_option("--recipe", f->recipe,
                  "octet (the default of MODEL OUT), octet-fast, mindie, or a YAML file")
      ->type_name("octet|octet-fast|mindie|FILE");
  sub->add_option("--float-budget", f->float_budget,
                  "recipe: at most so many linears in float beside the head");
  sub->add_option("--dynamic-budget", f->dynamic_budget,
                  "recipe: at most so many linears with scales per token; by itself: wherever it "
                  "pays, but none in float16 models");
  sub->add_option(
         "--calib-file", f->calib_file,
         "calibration text: one JSON object a line with `inputs_pretokenized`; `none` = no "
         "calibration, for --is_dynamic and --a_bit 16")
      ->type_name("FILE");
  sub->add_option("--calib-texts", f->calib_texts, "calibration texts, when there is no file")
      ->expected(1, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--calib-tokens", f->calib_tokens, "token ids in place of text: [[1, 2], [3]]")
      ->type_name("FILE");
  sub->add_option("--report-text", f->report_text.file,
                  "measure KL and perplexity against MODEL on this text, for the report; both "
                  "models are in memory then")
      ->type_name("FILE");
  sub->add_option("--report-passages", f->report_text.passages,
                  "... on its first passages only; 0 = all");
  sub->add_option("--act-method", f->act_method,
                  "ranges of activations: 1 min-max, 2 histogram, 3 automatic")
      ->check(CLI::IsMember({"1", "2", "3"}))
      ->capture_default_str();
  sub->add_option("--anti-method", f->anti_method,
                  "outlier suppression: m1 (SmoothQuant), m2, m3 (AWQ), m4 (iterative smooth), m5 "
                  "(CBQ), m6 (flex smooth), or nothing")
      ->type_name("m1|m2|m3|m4|m5|m6|none")
      ->expected(0, 1);
  sub->add_option("--anti-calib-file", f->anti_calib_file,
                  "other calibration text for outlier suppression and --disable-threshold")
      ->type_name("FILE")
      ->expected(0, 1);
  sub->add_option("--a-bit", f->a_bit, "activations: 8, or 16 for int8 weights only (W8A16)")
      ->check(CLI::IsMember({"8", "16"}))
      ->capture_default_str();
  add_bool(sub, "--w-sym", f->w_sym, "symmetric weights; False with --a-bit 16 only");
  add_bool(sub, "--is-dynamic", f->is_dynamic,
           "ranges of activations per token at run time (W8A8_DYNAMIC)");
  add_bool(sub, "--pdmix", f->pdmix, "dynamic prefill, static decode (W8A8_MIX)");
  add_bool(sub, "--use-kvcache-quant", f->use_kvcache_quant, "static int8 KV cache (C8)");
  sub->add_option("--disable-level", f->disable_level,
                  "LN: keep the N linears with the hardest inputs in float")
      ->capture_default_str();
  sub->add_option("--disable-names", f->disable_names,
                  "linears to keep in float, by full name; `none` = not even the model type's "
                  "defaults")
      ->expected(0, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--disable-threshold", f->disable_threshold,
                  "above 0: of the linears kept in float by name, keep those with a higher score")
      ->capture_default_str();
  sub->add_option("--layer-count", f->layer_count,
                  "layers that the model type's defaults cover; 0 = all")
      ->capture_default_str();
  sub->add_option("--model-type", f->model_type,
                  "whose defaults: llama, llama2, llama3, llama3.1_bf, llama3.1_fp, "
                  "llama3.1_instruct, qwen1.5, qwen2, qwen2.5, qwen3; from config.json if absent");
  add_bool(sub, "--disable-last-linear", f->disable_last_linear, "keep lm_head in float");
  sub->add_option("--device-type", f->device_type, "cpu")->capture_default_str();
  sub->add_option("--part-file-size", f->part_file_size, "largest weight file in GB; 0 = one file");
  sub->add_option("--compat", f->compat,
                  "msmodelslim: write exactly what msModelSlim v0 writes on a CPU; msmodelslim_v1: "
                  "files named and laid out as v1's")
      ->check(CLI::IsMember({"msmodelslim", "msmodelslim_v1"}));
  sub->add_flag("--mindie-format", f->mindie_format,
                "--compat msmodelslim in the tool's older layout");
  f->run.add_to(sub);
  sub->add_option("--tokenizer-args", f->tokenizer_args, "JSON; padding_side, pad_token");
  sub->add_option("--model-name", f->model_name, "accepted; has no meaning here");
  sub->add_option("--input-ids-name", f->input_ids_name, "accepted; has no meaning here");
  sub->add_option("--attention-mask-name", f->attention_mask_name, "accepted; has no meaning here");
  add_bool(sub, "--trust-remote-code", f->trust_remote_code,
           "accepted; no code of a model folder is ever run");
  add_outside(sub);
  add_quantize_quant(sub);
  sub->callback([f, sub] {
    if (!sub->get_subcommands().empty()) return;  // `quantize quant` has done it
    settle_paths(*f);
    find_tool_flags(sub, *f);
    if (f->report_text.file.empty() && sub->count("--report-passages") > 0)
      throw usage_error("--report-passages goes with --report-text");
    QuantizeOptions options = options_of(*f);
    settle_by_model(f->model_path, options);
    if (!f->report_text.file.empty()) {
      if (options.compat_msmodelslim)
        throw usage_error(
            "--report_text: --compat msmodelslim (which --mindie_format means) writes no report");
      // What is wrong with the text is to show before the work.
      encode_texts(f->report_text, text::Tokenizer::load(f->model_path));
    }
    const CalibrationData data = calibration_data(*f, options);
    note_calibration(data, options);
    f->run.quantize(f->model_path, f->save_directory, data, options,
                    [&](const fs::path& folder, ordered_json& report) {
                      if (!f->report_text.file.empty())
                        report["measured"] =
                            measure(f->model_path, folder.string(), f->report_text, options.quiet);
                      write_report_page(folder, report);
                    });
  });
}

}  // namespace octet::cli
