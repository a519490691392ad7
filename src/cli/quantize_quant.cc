// `octet quantize quant`: the command of msModelSlim v1 (`msmodelslim quant`), flag by flag.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>

#include "src/base/error.h"
#include "src/cli/quantize.h"
#include "src/quant/settings/calibration_data.h"
#include "src/quant/settings/practice.h"

namespace octet::cli {
namespace {

struct Flags {
  RunFlags run;
  std::string model_type, model_path, save_path, device = "cpu", config_path, quant_type;
  std::string calib_file, compat;
  std::vector<std::string> tag;
  bool trust_remote_code = false, debug = false;
};

Practice practice_of(const Flags& f, const ModelConfig& config) {
  if (!f.config_path.empty()) {
    Practice practice = parse_practice(read_text(f.config_path), f.config_path, config);
    if (!f.quant_type.empty()) notice("--quant_type has no effect: there is a --config_path");
    return practice;
  }
  const std::string type = f.quant_type.empty() ? "w8a8" : f.quant_type;  // as the tool
  Practice practice = parse_practice(builtin_practice(type), "practice " + type, config);
  notice(
      fmt::format("the default practice of {}; msModelSlim has others for some models, which "
                  "--config_path takes",
                  type));
  return practice;
}

// The calibration sets that come with msModelSlim, which its own practices name.
bool shipped_with_the_tool(const fs::path& dataset) {
  constexpr std::array kSets = {"anti_prompt",
                                "autocodebench",
                                "boolq",
                                "calib_prompt",
                                "cn_en",
                                "llama_anti_prompt",
                                "long_calib",
                                "mix_calib",
                                "qwen3_cot",
                                "qwen3_cot_w4a4",
                                "qwen_anti",
                                "qwen_calib",
                                "wiki",
                                "llama_calib_prompt",
                                "teacher_qualification"};
  const fs::path type = dataset.extension();
  return !dataset.has_parent_path() && (type.empty() || type == ".jsonl" || type == ".json") &&
         std::ranges::find(kSets, dataset.stem().string()) != kSets.end();
}

// The file that the practice names: beside it, or from here; nothing for one of the tool's own.
std::optional<fs::path> dataset_file(const Flags& f, const std::string& dataset) {
  for (const fs::path& folder : {fs::path(f.config_path).parent_path(), fs::path()})
    if (fs::exists(folder / dataset)) return folder / dataset;
  if (shipped_with_the_tool(dataset)) return std::nullopt;
  throw Error("the calibration text of the practice is not there", ErrorKind::kUsage)
      .file(f.config_path)
      .field("spec.dataset")
      .expected("a file, beside this one or in the current folder")
      .found(dataset)
      .remedy("--calib_file FILE, or leave the field out for built-in text");
}

CalibrationData calibration_data(const Flags& f, const Practice& practice,
                                 const ModelConfig& config, const QuantizeOptions& options) {
  CalibrationData data;
  if (!needs_samples(options, /*outlier=*/false)) {
    if (!f.calib_file.empty() && !is_none(f.calib_file))
      notice("--calib_file has no effect: nothing is learnt from it");
    return data;
  }
  if (is_none(f.calib_file)) return data;
  std::vector<std::string> texts;
  const auto take = [&](const fs::path& file) {
    texts = read_calibration_texts(file);
    data.source = file.filename().string();
  };
  if (!f.calib_file.empty()) {
    take(f.calib_file);
  } else if (const auto file =
                 practice.dataset.empty() ? std::nullopt : dataset_file(f, practice.dataset)) {
    take(*file);
  } else {
    texts = practice.dataset.empty()
                ? builtin_texts()
                : builtin_texts(fmt::format("spec.dataset {} is msModelSlim's own and not here",
                                            practice.dataset));
    data.source = kBuiltinSource;
  }
  data.samples =
      one_each(tokenize(texts, data.source, text::Tokenizer::load(f.model_path, config.vocab_size),
                        static_cast<size_t>(config.max_position)));
  return data;
}

void quantize_by_practice(const Flags& f) {
  check_device("--device", f.device);
  const ModelConfig config = ModelConfig::load(f.model_path);
  const Practice practice = practice_of(f, config);
  QuantizeOptions o;
  o.output = practice.output;
  o.method = practice.method;
  o.run = f.run.settings();
  if (f.compat == "msmodelslim_v1") o.output.layout = Layout::kMsmodelslimV1;
  note_remote_code(f.trust_remote_code);
  if (!f.tag.empty()) notice("--tag has no effect: it chooses among the tool's own practices");
  if (f.debug) notice("--debug has no effect");
  if (!f.model_type.empty()) notice("--model_type has no effect: config.json says what it is");
  for (const std::string& note : practice.notes) notice(note);
  settle_by_folders(f.model_path, f.save_path, o);
  const CalibrationData data = calibration_data(f, practice, config, o);
  note_calibration(data, o);
  f.run.quantize(f.model_path, f.save_path, data, o, write_report_page);
}

}  // namespace

void add_quantize_quant(const Verb& quantize) {
  const Verb verb = quantize.verb("quant", "by msModelSlim v1's command line");
  auto f = std::make_shared<Flags>();
  verb.text("--model-type", f->model_type, "accepted; config.json says what it is");
  verb.text("--model-path", f->model_path, "folder of the float checkpoint").required();
  verb.text("--save-path", f->save_path, "folder to write").required();
  verb.text("--device", f->device, "cpu").show_default();
  verb.text("--config-path,--config", f->config_path, "a practice: YAML of apiversion modelslim_v1")
      .metavar("FILE");
  verb.text("--quant-type", f->quant_type,
            "the default practice of w8a8, w8a16 or w8a8c8; w8a8 without --config_path")
      .metavar("w8a8|w8a16|w8a8c8");
  verb.boolean("--trust-remote-code", f->trust_remote_code,
               "accepted; no code of a model folder is ever run");
  verb.toggle("--debug", f->debug, "accepted; has no meaning here");
  verb.list("--tag", f->tag, "accepted; has no meaning here").or_nothing();
  verb.text("--calib-file", f->calib_file,
            "calibration text, in place of spec.dataset; `none` = no calibration")
      .metavar("FILE");
  verb.text("--compat", f->compat, "msmodelslim_v1: files named and laid out as the tool's")
      .one_of({"msmodelslim_v1"});
  f->run.add_to(verb);
  verb.run([f] { quantize_by_practice(*f); });
}

}  // namespace octet::cli
