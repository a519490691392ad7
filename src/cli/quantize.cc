// `octet quantize`: msModelSlim's quant_llama.py and quant_qwen.py, flag by flag.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <memory>
#include <regex>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/quant/calibration_data.h"
#include "src/quant/quantizer.h"

namespace octet::cli {
namespace {

// The flags as they were written.
struct Flags {
  std::string model_path, save_directory;
  std::string calib_file, calib_tokens, device_type = "cpu", anti_method, disable_level = "L0";
  std::vector<std::string> calib_texts, disable_names;
  int act_method = 1;
  double part_file_size = 0;
  bool disable_last_linear = true, mindie_format = false, overwrite = false, quiet = false;
  bool trust_remote_code = false;
  std::string model_type, compat, tokenizer_args, input_ids_name, attention_mask_name;
};

// Flags of the tool that have no other value here yet than the tool's default.
struct NotYet {
  const char* name;
  const char* only;  // the one value that is accepted
  const char* what;
};
constexpr std::array<NotYet, 24> kNotYet = {{
    {"--w-bit", "8", "weight bits"},
    {"--a-bit", "8", "activation bits"},
    {"--fraction", "0.01", "sparse quantization: fraction of outliers"},
    {"--co-sparse", "False", "sparse quantization"},
    {"--is-lowbit", "False", "low-bit quantization"},
    {"--do-smooth", "False", "low-bit: smoothing"},
    {"--use-sigma", "False", "low-bit: sigma outliers"},
    {"--sigma-factor", "3.0", "low-bit: factor of sigma"},
    {"--open-outlier", "True", "low-bit: weight outliers"},
    {"--group-size", "64", "low-bit: group size"},
    {"--use-reduce-quant", "False", "quantized all-reduce"},
    {"--tp-size", "1", "tensor parallel size of quantized all-reduce"},
    {"--w-sym", "True", "symmetric weights"},
    {"--use-kvcache-quant", "False", "int8 KV cache"},
    {"--use-fa-quant", "False", "int8 attention"},
    {"--fa-amp", "0", "int8 attention: layers kept"},
    {"--is-dynamic", "False", "per-token activations"},
    {"--pdmix", "False", "dynamic prefill, static decode"},
    {"--model-name", "", "special treatment by model name"},
    {"--anti-calib-file", "", "separate text for outlier suppression"},
    {"--disable-threshold", "0", "layer choice by threshold"},
    {"--layer-count", "0", "only the first layers"},
    {"--w-method", "MinMax", "weight rounding method"},
    {"--mm-tensor", "True", "per-tensor weights (the tool ignores it and works per channel)"},
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

void add_not_yet(CLI::App* app) {
  for (const NotYet& flag : kNotYet) {
    const auto check = [flag](const std::string& value) {
      // --mm-tensor False is what the tool does whatever one says.
      if (same_value(value, flag.only) ||
          (std::string(flag.name) == "--mm-tensor" && same_value(value, "False")))
        return std::string();
      return fmt::format("{} {} is not supported yet ({}); the only value for now is {}", flag.name,
                         value, flag.what, *flag.only == 0 ? "nothing" : flag.only);
    };
    app->add_option_function<std::string>(
           flag.name, [](const std::string&) {}, flag.what)
        ->check(
            CLI::Validator(check, fmt::format("only {}", *flag.only == 0 ? "empty" : flag.only)))
        ->group("Of msModelSlim, not supported yet");
  }
}

AntiMethod parse_anti_method(const std::string& s) {
  if (s.empty() || s == "none") return AntiMethod::kNone;
  if (s == "m1") return AntiMethod::kM1;
  if (s == "m3") return AntiMethod::kM3;
  for (const char* later : {"m2", "m4", "m5", "m6"})
    if (s == later)
      throw Error("this outlier suppression is not supported yet", ErrorKind::kUsage)
          .field("--anti_method")
          .expected("m1, m3 or nothing")
          .found(s);
  throw Error("unknown outlier suppression", ErrorKind::kUsage)
      .field("--anti_method")
      .expected("m1, m3 or nothing")
      .found(s);
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

void check_device(const std::string& s) {
  if (s == "cpu") return;
  if (s == "npu")
    throw Error("there is no NPU here: this program computes on CPUs", ErrorKind::kUsage)
        .field("--device_type")
        .expected("cpu")
        .found(s)
        .remedy("use --device_type cpu; the checkpoint is the same and loads on NPUs");
  throw Error("unknown device", ErrorKind::kUsage).field("--device_type").expected("cpu").found(s);
}

// The tool's tokenizer arguments: those that change nothing for samples of one text are taken.
void check_tokenizer_args(const std::string& s) {
  if (s.empty()) return;
  const json args = parse_json(s, "--tokenizer_args");
  if (!args.is_object()) throw usage_error("--tokenizer_args: expected a JSON object");
  for (const auto& [key, value] : args.items())
    if (key != "padding_side" && key != "pad_token" && key != "eos_token")
      throw Error("this tokenizer argument is not supported", ErrorKind::kUsage)
          .field("--tokenizer_args")
          .expected("padding_side, pad_token (samples are never padded, so they change nothing)")
          .found(key);
}

// Flags that are taken and change nothing say so.
void note_flags_without_effect(const Flags& f) {
  if (!f.tokenizer_args.empty()) notice("--tokenizer_args has no effect: samples are never padded");
  if (!f.input_ids_name.empty() || !f.attention_mask_name.empty())
    notice(
        "--input_ids_name and --attention_mask_name have no effect: there is no such dictionary");
  if (f.trust_remote_code)
    notice("--trust_remote_code has no effect: no code of a model folder is ever run");
}

QuantizeOptions options_of(const Flags& f) {
  check_device(f.device_type);
  check_tokenizer_args(f.tokenizer_args);
  note_flags_without_effect(f);
  QuantizeOptions o;
  o.act_method = static_cast<ActMethod>(f.act_method);
  o.anti_method = parse_anti_method(f.anti_method);
  o.disable_level = parse_level(f.disable_level);
  if (f.disable_names == std::vector<std::string>{"none"}) {
    o.disable_names.emplace();
  } else if (!f.disable_names.empty() && f.disable_names != std::vector<std::string>{""}) {
    o.disable_names = f.disable_names;
  }
  o.model_type = f.model_type;
  o.disable_last_linear = f.disable_last_linear;
  o.compat_msmodelslim = f.compat == "msmodelslim";
  o.mindie_format = f.mindie_format;
  if (f.mindie_format && !o.compat_msmodelslim)
    throw usage_error(
        "--mindie_format is a layout of --compat msmodelslim; without that option "
        "the output is what MindIE and vLLM-Ascend both load");
  if (!(f.part_file_size >= 0 && f.part_file_size < 1e6))
    throw usage_error("--part_file_size: expected a size in GB; 0 = one file");
  o.part_bytes = static_cast<uint64_t>(f.part_file_size * (1 << 30));
  o.overwrite = f.overwrite;
  o.quiet = f.quiet;
  return o;
}

std::vector<std::vector<int32_t>> samples_of(const Flags& f) {
  if (!f.calib_file.empty() + !f.calib_tokens.empty() + !f.calib_texts.empty() > 1)
    throw usage_error("give one of --calib_file, --calib_texts and --calib_tokens");
  if (!f.calib_tokens.empty()) return read_calibration_tokens(f.calib_tokens);
  std::vector<std::string> texts = f.calib_texts;
  if (!f.calib_file.empty()) {
    texts = read_calibration_texts(f.calib_file);
  } else if (texts.empty()) {
    texts = builtin_calibration_texts();
    notice(
        fmt::format("no --calib_file: calibrating on {} built-in texts; text like what the "
                    "model will read is better",
                    texts.size()));
  }
  const ModelConfig config = ModelConfig::load(f.model_path);
  return tokenize(texts, text::Tokenizer::load(f.model_path),
                  static_cast<size_t>(config.max_position));
}

std::string size_cell(uint64_t bytes) { return bytes == 0 ? "-" : format_bytes(bytes); }

void report(const QuantizeSummary& s, const std::string& target) {
  std::vector<std::vector<std::string>> rows = {{"tensors", "type", "count", "before", "after"}};
  for (const SummaryRow& r : s.rows)
    rows.push_back({r.role, r.type, std::to_string(r.count), size_cell(r.bytes_before),
                    size_cell(r.bytes_after)});
  rows.push_back({"all", "", "", format_bytes(s.bytes_before), format_bytes(s.bytes_after)});
  fmt::print("{}", format_table(rows, {false, false, true, true, true}));
  // Kept in float, by reason; levels one by one, whole lists counted.
  std::map<std::string, std::vector<std::string>> reasons;
  for (const auto& [name, reason] : s.kept) reasons[reason].push_back(name);
  fmt::print("\nkept in float:\n");
  for (const auto& [reason, names] : reasons)
    fmt::print("  {} ({}{})\n",
               names.size() == 1 ? names[0] : fmt::format("{} linears", names.size()), reason,
               names.size() == 1 ? "" : fmt::format("; {} ... {}", names.front(), names.back()));
  if (reasons.empty()) fmt::print("  nothing\n");
  fmt::print("\n{} in {}\n", target, format_seconds(s.seconds));
}

}  // namespace

void add_quantize(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("quantize", "float checkpoint -> W8A8 checkpoint");
  auto f = std::make_shared<Flags>();
  sub->add_option("--model-path", f->model_path, "folder of the float16 or bfloat16 checkpoint")
      ->required();
  sub->add_option("--save-directory", f->save_directory, "folder to write")->required();
  sub->add_option("--calib-file", f->calib_file,
                  "calibration text: one JSON object a line with `inputs_pretokenized`")
      ->type_name("FILE");
  sub->add_option("--calib-texts", f->calib_texts, "calibration texts, when there is no file")
      ->expected(1, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--calib-tokens", f->calib_tokens, "token ids in place of text: [[1, 2], [3]]")
      ->type_name("FILE");
  sub->add_option("--act-method", f->act_method,
                  "ranges of activations: 1 min-max, 2 histogram, 3 automatic")
      ->check(CLI::IsMember({1, 2, 3}))
      ->capture_default_str();
  sub->add_option("--anti-method", f->anti_method,
                  "outlier suppression: m1 (SmoothQuant), m3 (AWQ), or nothing")
      ->expected(0, 1);
  sub->add_option("--disable-level", f->disable_level,
                  "LN: keep the N linears with the hardest inputs in float")
      ->capture_default_str();
  sub->add_option("--disable-names", f->disable_names,
                  "linears to keep in float, by full name; `none` = not even the model type's "
                  "defaults")
      ->expected(0, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  sub->add_option("--model-type", f->model_type,
                  "whose defaults: llama, llama2, llama3, llama3.1_bf, llama3.1_fp, "
                  "llama3.1_instruct, qwen1.5, qwen2, qwen2.5, qwen3; from config.json if absent");
  add_bool(sub, "--disable-last-linear", f->disable_last_linear, "keep lm_head in float");
  sub->add_option("--device-type", f->device_type, "cpu")->capture_default_str();
  sub->add_option("--part-file-size", f->part_file_size, "largest weight file in GB; 0 = one file");
  sub->add_option("--compat", f->compat,
                  "msmodelslim: write exactly what msModelSlim writes on a CPU")
      ->check(CLI::IsMember({"msmodelslim"}));
  sub->add_flag("--mindie-format", f->mindie_format, "with --compat: its older layout");
  sub->add_flag("--overwrite", f->overwrite, "replace the folder if it exists");
  sub->add_flag("--quiet", f->quiet, "no progress, no table");
  sub->add_option("--tokenizer-args", f->tokenizer_args, "JSON; padding_side, pad_token");
  sub->add_option("--input-ids-name", f->input_ids_name, "accepted; has no meaning here");
  sub->add_option("--attention-mask-name", f->attention_mask_name, "accepted; has no meaning here");
  add_bool(sub, "--trust-remote-code", f->trust_remote_code,
           "accepted; no code of a model folder is ever run");
  add_not_yet(sub);
  sub->callback([f] {
    const QuantizeOptions options = options_of(*f);
    const QuantizeSummary summary =
        quantize(f->model_path, f->save_directory, samples_of(*f), options);
    if (!options.quiet) report(summary, f->save_directory);
  });
}

}  // namespace octet::cli
