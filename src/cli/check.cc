// `octet check`: refuses a broken checkpoint, with reasons.
#include "src/checkpoint/check.h"

#include <fmt/format.h>

#include <memory>

#include "src/base/json.h"
#include "src/cli/cli.h"
#include "src/cli/flags.h"

namespace octet::cli {
namespace {

void print_line(const Finding& f) {
  fmt::print("{}: {}\n", f.severity == Severity::kError ? "error" : "warning", describe(f));
}

void check_checkpoint(const std::string& folder, bool as_json) {
  const std::vector<Finding> findings = check_folder(folder);
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
