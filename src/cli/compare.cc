// `octet compare`: where two checkpoints differ.
#include "src/eval/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>

#include "src/base/error.h"
#include "src/base/say.h"
#include "src/cli/cli.h"
#include "src/cli/flags.h"
#include "src/quant/settings/recipe.h"

namespace octet::cli {
namespace {

using Kind = TensorDifference::Kind;

struct CompareFlags {
  std::string a, b;
  bool as_json = false, all = false;
};

std::string db(const std::optional<double>& v) { return v ? fmt::format("{:.1f}", *v) : "-"; }

void print_tensors(const Comparison& c, bool all) {
  std::vector<std::vector<std::string>> rows = {
      {"tensor", "A", "B", "result", "largest", "relative", "SNR, dB"}};
  // What int8 weights bring along, in one line for all linears.
  std::map<std::string, size_t> extras[2];
  for (const TensorDifference& t : c.tensors) {
    const bool only = t.kind == Kind::kOnlyA || t.kind == Kind::kOnlyB;
    if (!all && t.kind == Kind::kSame) continue;
    if (!all && only && !t.name.ends_with(".weight")) {
      ++extras[t.kind == Kind::kOnlyB][t.name.substr(t.name.rfind('.'))];
      continue;
    }
    rows.push_back({t.name, t.a, t.b, TensorDifference::word(t.kind),
                    t.values ? fmt::format("{:.3g}", t.values->largest) : "",
                    t.values ? fmt::format("{:.3g}", t.values->relative) : "",
                    t.values ? db(t.values->snr) : ""});
  }
  if (rows.size() > 1)
    fmt::print("\n{}", format_table(rows, {false, false, false, false, true, true, true}));
  for (int side = 0; side < 2; ++side)
    for (const auto& [suffix, count] : extras[side])
      fmt::print("only in {}: {} tensors *{}\n", side == 0 ? "A" : "B", count, suffix);
}

void print_layers(const Comparison& c) {
  std::vector<std::vector<std::string>> rows = {
      {"layer", "same", "different", "only in A", "only in B", "lowest SNR, dB", "of"}};
  for (const LayerDifference& l : c.layers)
    rows.push_back({std::to_string(l.layer), std::to_string(l.same), std::to_string(l.different),
                    std::to_string(l.only_a), std::to_string(l.only_b), db(l.lowest_snr),
                    l.lowest_name});
  fmt::print("{}", format_table(rows, {true, true, true, true, true, true, false}));
}

void compare_models(const CompareFlags& f) {
  const ModelFolder a(f.a), b(f.b);
  const Comparison c = compare_folders(a, b);
  const auto rotated = [](const std::string& folder) {
    const fs::path file = fs::path(folder) / "octet_recipe.yaml";
    if (!fs::exists(file)) return false;
    const Recipe recipe = load_recipe(file.string());
    return recipe.find<RotateResidual>() || recipe.find<RotateValues>();
  };
  if (rotated(f.a) != rotated(f.b))
    notice(
        "a recipe may rotate weights: they differ everywhere and compute the same; octet eval "
        "--layers compares what they compute");
  if (f.as_json) {
    fmt::print("{}\n", to_json(c).dump(2));
  } else {
    fmt::print("A: {}, {}\nB: {}, {}\n", f.a, a.type_words(), f.b, b.type_words());
    if (c.equal()) {
      fmt::print("the same: {} tensors and config.json\n", c.tensors.size());
    } else {
      if (!c.config.empty()) fmt::print("config.json differs in: {}\n", fmt::join(c.config, ", "));
      fmt::print("\n");
      print_layers(c);
      print_tensors(c, f.all);
    }
  }
  if (!c.equal()) throw Exit{1};
}

}  // namespace

void add_compare(Verb program) {
  const Verb verb = program.verb("compare", "where two checkpoints differ");
  auto f = std::make_shared<CompareFlags>();
  verb.text("A", f->a, "a model folder").required();
  verb.text("B", f->b, "another one").required();
  verb.toggle("--json", f->as_json, "machine-readable, every tensor");
  verb.toggle("--all", f->all, "every tensor, also those that are the same");
  verb.footer("Exit code 0: the same; 1: different; 2: one of them cannot be read.");
  verb.run([f] {
    try {
      compare_models(*f);
    } catch (const Error& e) {  // 1 means different here, as with cmp and diff
      say(fmt::format("octet: error: {}\n", e.what()));
      throw Exit{2};
    }
  });
}

}  // namespace octet::cli
