#include "src/quant/recipe.h"

#include <fmt/format.h>

#include <limits>
#include <map>
#include <set>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/quant/yaml_map.h"

namespace octet {

extern const char kRecipeOctet[];      // made by CMake from recipes/octet.yaml
extern const char kRecipeOctetFast[];  // and recipes/octet-fast.yaml

namespace {

constexpr int64_t kMany = int64_t{1} << 32;  // more linears than any model has

uint64_t seed_of(YamlMap& p) {
  return static_cast<uint64_t>(p.integer("seed", 1, 0, std::numeric_limits<int64_t>::max()));
}

using Step = void (*)(YamlMap&, Recipe&);
const std::map<std::string, Step>& steps() {
  static const std::map<std::string, Step> all = {
      {"rotate_residual", [](YamlMap& p, Recipe& r) { r.rotate_residual = seed_of(p); }},
      {"rotate_values", [](YamlMap& p, Recipe& r) { r.rotate_values = seed_of(p); }},
      {"turn_norms", [](YamlMap&, Recipe& r) { r.turn_norms = true; }},
      {"equalize_values",
       [](YamlMap& p, Recipe& r) { r.value_margin = p.number("margin", 1, 0.1, 10); }},
      {"equalize_mlp",
       [](YamlMap& p, Recipe& r) {
         Recipe::EqualizeMlp e;
         e.copies = p.number("copies", 0, 0, 1);
         e.weight_noise = p.number("weight_noise", e.weight_noise, 0, 4);
         e.spread = p.number("spread", e.spread, 0, 0.9);
         e.margin = p.number("margin", e.margin, 0.1, 10);
         r.equalize_mlp = e;
       }},
      {"choose_types",
       [](YamlMap& p, Recipe& r) {
         r.float_budget = static_cast<size_t>(p.integer("float_budget", 0, 0, kMany));
         const int64_t budget = p.integer("dynamic_budget", -1, -1, kMany);  // -1: where it pays
         r.dynamic_budget.reset();
         if (budget >= 0) r.dynamic_budget = static_cast<size_t>(budget);
       }},
      {"find_ranges",
       [](YamlMap& p, Recipe& r) {
         const std::string method = p.word("method", "search", {"minmax", "quantile", "search"});
         r.ranges.method = method == "minmax"     ? RangeMethod::kMinMax
                           : method == "quantile" ? RangeMethod::kQuantile
                                                  : RangeMethod::kSearch;
         r.ranges.quantile = p.number("quantile", r.ranges.quantile, 0.5, 1);
         const double margin = p.number("margin", 1, 0, 10);  // 0: by cross-validation
         r.ranges.margin.reset();
         if (margin > 0) r.ranges.margin = margin;
       }},
      {"round_weights",
       [](YamlMap& p, Recipe& r) {
         const bool gptq = p.word("method", "gptq", {"gptq", "nearest"}) == "gptq";
         const double damping = p.number("damping", 0.01, 1e-6, 1);
         r.gptq_damping.reset();
         if (gptq) r.gptq_damping = damping;
       }},
      {"quantize_kv_cache", [](YamlMap&, Recipe& r) { r.quantize_kv_cache = true; }},
      {"correct_bias",
       [](YamlMap& p, Recipe& r) {
         r.bias = p.word("target", "float", {"float", "own"}) == "own" ? BiasTarget::kOwn
                                                                       : BiasTarget::kFloat;
       }},
  };
  return all;
}

}  // namespace

Recipe parse_recipe(const std::string& yaml, const std::string& where) {
  YAML::Node root;
  try {
    root = YAML::Load(yaml);
  } catch (const YAML::Exception& e) {
    throw Error("the recipe is no YAML: " + e.msg, ErrorKind::kUsage)
        .file(fmt::format("{}, line {}", where, e.mark.line + 1));
  }
  if (!root.IsMap() || !root["steps"] || !root["steps"].IsSequence())
    throw Error("the recipe has no list of steps", ErrorKind::kUsage).file(where).field("steps");
  for (const auto& entry : root)
    if (const std::string key = entry.first.Scalar(); key != "recipe" && key != "steps")
      throw Error("an unknown field in the recipe", ErrorKind::kUsage)
          .file(fmt::format("{}, line {}", where, entry.first.Mark().line + 1))
          .expected("recipe, steps")
          .found(key);
  Recipe r;
  r.name = root["recipe"] && root["recipe"].IsScalar() ? root["recipe"].Scalar() : "unnamed";
  std::set<std::string> seen;
  for (const auto& step : root["steps"]) {
    const bool bare = step.IsScalar();
    if (!bare && !(step.IsMap() && step.size() == 1))
      throw Error("a step that is no name with parameters", ErrorKind::kUsage)
          .file(fmt::format("{}, line {}", where, step.Mark().line + 1))
          .field("steps");
    const std::string name = bare ? step.Scalar() : step.begin()->first.Scalar();
    const auto it = steps().find(name);
    if (it == steps().end()) {
      std::string known;
      for (const auto& [word, unused] : steps()) known += (known.empty() ? "" : ", ") + word;
      throw Error("unknown step in the recipe", ErrorKind::kUsage)
          .file(fmt::format("{}, line {}", where, step.Mark().line + 1))
          .expected(known)
          .found(name);
    }
    if (!seen.insert(name).second)
      throw Error("a step that comes twice", ErrorKind::kUsage).file(where).found(name);
    YamlMap p(bare ? YAML::Node() : step.begin()->second, where, name);
    it->second(p, r);
    p.finish();
  }
  return r;
}

Recipe load_recipe(const std::string& name) {
  if (name == "octet") return parse_recipe(kRecipeOctet, "recipe octet");
  if (name == "octet-fast") return parse_recipe(kRecipeOctetFast, "recipe octet-fast");
  if (!fs::exists(name))
    throw Error("no such recipe", ErrorKind::kUsage)
        .field("--recipe")
        .expected("octet, octet-fast, mindie, or a file")
        .found(name);
  return parse_recipe(read_text(name), name);
}

std::string to_yaml(const Recipe& r) {
  YAML::Emitter name;  // puts it into quotes where it must be
  name << r.name;
  std::string s = fmt::format("recipe: {}\nsteps:\n", name.c_str());
  if (r.rotate_residual)
    s += fmt::format("  - rotate_residual: {{seed: {}}}\n", *r.rotate_residual);
  if (r.rotate_values) s += fmt::format("  - rotate_values: {{seed: {}}}\n", *r.rotate_values);
  if (r.turn_norms) s += "  - turn_norms\n";
  if (r.value_margin) s += fmt::format("  - equalize_values: {{margin: {}}}\n", *r.value_margin);
  if (const auto& e = r.equalize_mlp)
    s += fmt::format("  - equalize_mlp: {{copies: {}, weight_noise: {}, spread: {}, margin: {}}}\n",
                     e->copies, e->weight_noise, e->spread, e->margin);
  s += fmt::format("  - choose_types: {{float_budget: {}, dynamic_budget: {}}}\n", r.float_budget,
                   r.dynamic_budget ? static_cast<int64_t>(*r.dynamic_budget) : int64_t{-1});
  const bool minmax = r.ranges.method == RangeMethod::kMinMax;
  s += fmt::format("  - find_ranges: {{method: {}, margin: {}",
                   minmax                                      ? "minmax"
                   : r.ranges.method == RangeMethod::kQuantile ? "quantile"
                                                               : "search",
                   r.ranges.margin.value_or(0));
  if (r.ranges.method == RangeMethod::kQuantile)
    s += fmt::format(", quantile: {}", r.ranges.quantile);
  s += "}\n";
  s += r.gptq_damping
           ? fmt::format("  - round_weights: {{method: gptq, damping: {}}}\n", *r.gptq_damping)
           : std::string("  - round_weights: {method: nearest}\n");
  if (r.bias != BiasTarget::kNone)
    s += fmt::format("  - correct_bias: {{target: {}}}\n",
                     r.bias == BiasTarget::kFloat ? "float" : "own");
  if (r.quantize_kv_cache) s += "  - quantize_kv_cache\n";
  return s;
}

}  // namespace octet
