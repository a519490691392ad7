// `octet quantize quant`: the command of msModelSlim v1 (`msmodelslim quant`), flag by flag.
#include <fmt/format.h>

#include <memory>

#include "src/base/error.h"
#include "src/cli/quantize.h"
#include "src/quant/calibration_data.h"
#include "src/quant/practice.h"

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
    if (!f.quant_type.empty()) notice("--quant_type has no effect: there is a --config_path");
    return parse_practice(read_text(f.config_path), f.config_path, config);
  }
  const std::string type = f.quant_type.empty() ? "w8a8" : f.quant_type;  // as the tool
  notice(
      fmt::format("the default practice of {}; msModelSlim has others for some models, which "
                  "--config_path takes",
                  type));
  return parse_practice(builtin_practice(type), "practice " + type, config);
}

// The file that the practice names: beside it, or from here.
fs::path dataset_file(const Flags& f, const std::string& dataset) {
  for (const fs::path& folder : {fs::path(f.config_path).parent_path(), fs::path()})
    if (fs::exists(folder / dataset)) return folder / dataset;
  throw Error("the calibration text of the practice is not there", ErrorKind::kUsage)
      .file(f.config_path)
      .field("spec.dataset")
      .expected("a file, beside this one or in the current folder")
      .found(dataset)
      .remedy("--calib_file FILE, or leave the field out for built-in text");
}

CalibrationData calibration_data(const Flags& f, const Practice& practice,
                                 const ModelConfig& config) {
  if (!needs_samples(practice.options, /*outlier=*/false)) return {};
  std::vector<std::string> texts;
  if (!f.calib_file.empty())
    texts = read_calibration_texts(f.calib_file);
  else if (!practice.dataset.empty())
    texts = read_calibration_texts(dataset_file(f, practice.dataset));
  else
    texts = builtin_texts();
  CalibrationData data;
  data.samples = one_each(tokenize(texts, text::Tokenizer::load(f.model_path),
                                   static_cast<size_t>(config.max_position)));
  return data;
}

void run(const Flags& f) {
  check_device("--device", f.device);
  note_remote_code(f.trust_remote_code);
  if (!f.tag.empty()) notice("--tag has no effect: it chooses among the tool's own practices");
  if (f.debug) notice("--debug has no effect");
  const ModelConfig config = ModelConfig::load(f.model_path);
  if (!f.model_type.empty()) notice("--model_type has no effect: config.json says what it is");
  Practice practice = practice_of(f, config);
  for (const std::string& note : practice.notes) notice(note);
  QuantizeOptions& o = practice.options;
  o.v1_files = f.compat == "msmodelslim_v1";
  f.run.apply(o);
  settle_by_model(f.model_path, o);
  const CalibrationData data = calibration_data(f, practice, config);
  note_calibration(data, o);
  f.run.quantize(f.model_path, f.save_path, data, o, write_report_page);
}

}  // namespace

void add_quantize_quant(CLI::App* quantize) {
  CLI::App* sub = quantize->add_subcommand("quant", "by msModelSlim v1's command line");
  auto f = std::make_shared<Flags>();
  sub->add_option("--model-type", f->model_type, "accepted; config.json says what it is");
  sub->add_option("--model-path", f->model_path, "folder of the float checkpoint")->required();
  sub->add_option("--save-path", f->save_path, "folder to write")->required();
  sub->add_option("--device", f->device, "cpu")->capture_default_str();
  sub->add_option("--config-path", f->config_path, "a practice: YAML of apiversion modelslim_v1")
      ->type_name("FILE");
  sub->add_option("--quant-type", f->quant_type,
                  "the default practice of w8a8, w8a16 or w8a8c8; w8a8 without --config_path");
  add_bool(sub, "--trust-remote-code", f->trust_remote_code,
           "accepted; no code of a model folder is ever run");
  sub->add_flag("--debug", f->debug, "accepted; has no meaning here");
  sub->add_option("--tag", f->tag, "accepted; has no meaning here")->expected(0, -1);
  sub->add_option("--calib-file", f->calib_file, "calibration text, in place of spec.dataset")
      ->type_name("FILE");
  sub->add_option("--compat", f->compat, "msmodelslim_v1: files named and laid out as the tool's")
      ->check(CLI::IsMember({"msmodelslim_v1"}));
  f->run.add_to(sub);
  sub->callback([f] { run(*f); });
}

}  // namespace octet::cli
