// `octet check`: refuses a broken checkpoint, with reasons.
#include "src/checkpoint/check.h"

#include <fmt/format.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/checkpoint/model_config.h"
#include "src/checkpoint/side_files.h"
#include "src/cli/cli.h"
#include "src/cli/flags.h"
#include "src/cli/runtime.h"
#include "src/engine/refusal.h"
#include "src/server/api/refusals.h"
#include "src/text/slow_tokenizer.h"

namespace octet::cli {
namespace {

void print_line(const Finding& f) {
  fmt::print("{}: {}\n", f.severity == Severity::kError ? "error" : "warning", describe(f));
}

// Where transformers 4 and 5 put different tokens around a text, as other loaders do with them.
void warn_of_versions(const fs::path& folder, const text::Tokenizer& version4, Findings& findings) {
  const auto around = [](const text::Tokenizer& t) {
    std::string all;
    for (const int32_t id : t.encode("", true)) all += (all.empty() ? "" : " ") + t.id_to_token(id);
    return all.empty() ? "nothing" : all;
  };
  const std::string four = around(version4), five = around(text::Tokenizer::load_as_filed(folder));
  if (four == five) return;
  Finding& f = findings.warning("", "transformers 4 and 5 put different tokens around a text");
  f.file = (folder / "tokenizer_config.json").string();
  f.found = fmt::format("{} by 4, as Octet does, {} by 5", four, five);
  f.remedy =
      "add_bos_token and add_eos_token in tokenizer_config.json should say what the "
      "post_processor of tokenizer.json does";
}

// The tokenizer, templates and sampling defaults: whatever would keep `generate` and `serve` from
// using the folder.
std::vector<Finding> check_use(const fs::path& folder) {
  Findings findings;
  std::set<std::string> said;
  const auto attempt = [&](const std::function<void()>& read) {
    try {
      read();
    } catch (const Error& e) {  // several may need the same file
      if (said.insert(e.what()).second) findings.error("", e.what());
    }
  };
  std::optional<ModelConfig> config;
  try {
    config = ModelConfig::load(folder);
  } catch (const Error&) {
    return {};  // check_folder says it
  }
  if (!has_entry(folder / "tokenizer.json") && !text::has_slow_tokenizer(folder)) {
    findings.warning("", "no tokenizer.json").remedy = text::how_to_get_tokenizer(folder);
  } else {
    attempt([&] {
      const text::Tokenizer tokenizer = text::Tokenizer::load(folder);
      warn_of_versions(folder, tokenizer, findings);
      const size_t tokens = tokenizer.vocab_size();
      if (tokens <= static_cast<size_t>(config->vocab_size)) return;
      Finding& f = findings.warning("", "the tokenizer has more tokens than the model embeddings");
      f.expected = fmt::format("at most {} (vocab_size of config.json)", config->vocab_size);
      f.found = std::to_string(tokens);
      f.remedy = "text that has such a token is refused";
    });
  }
  attempt([&] { text::ChatTemplate::load(folder); });
  attempt([&] {
    const GenerationConfig defaults = GenerationConfig::load(folder);
    const Request request{{0}, sampling_of({}, defaults), nullptr};
    constexpr size_t kAnyLength = SIZE_MAX / 2;  // sampling is what is looked at
    if (const auto refusal = refusal_of(request, {config->vocab_size, kAnyLength, true, {}}))
      throw server::error_of(*refusal).file((folder / "generation_config.json").string());
  });
  attempt([&] { refuse_broken_side_files(folder); });
  return findings.take();
}

void check_checkpoint(const std::string& folder, bool as_json) {
  std::vector<Finding> findings = check_folder(folder);
  const std::vector<Finding> of_use = check_use(folder);
  findings.insert(findings.end(), of_use.begin(), of_use.end());
  size_t errors = 0;
  for (const Finding& f : findings) errors += f.severity == Severity::kError;
  if (as_json) {
    ordered_json list = ordered_json::array();
    for (const Finding& f : findings)
      list.push_back({{"severity", f.severity == Severity::kError ? "error" : "warning"},
                      {"file", f.file},
                      {"tensor", f.tensor},
                      {"problem", f.problem},
                      {"expected", f.expected},
                      {"found", f.found},
                      {"remedy", f.remedy}});
    fmt::print("{}\n", ordered_json{{"ok", errors == 0}, {"findings", list}}.dump(2));
  } else {
    for (const Finding& f : findings) print_line(f);
    fmt::print("{}: {}\n", folder,
               errors == 0 ? fmt::format("good, warnings: {}", findings.size())
                           : fmt::format("broken, errors: {}, warnings: {}", errors,
                                         findings.size() - errors));
  }
  if (errors > 0) throw Exit{1};
}

}  // namespace

void add_check(Verb program) {
  const Verb verb = program.verb("check", "says what is wrong with a checkpoint");
  auto folder = std::make_shared<std::string>();
  auto as_json = std::make_shared<bool>(false);
  verb.text("folder", *folder, "the model folder").required();
  verb.toggle("--json", *as_json, "machine-readable");
  verb.footer("Exit code 0: loads everywhere (warnings aside); 1: it does not.");
  verb.run([=] { check_checkpoint(*folder, *as_json); });
}

}  // namespace octet::cli
