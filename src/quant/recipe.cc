#include "src/quant/recipe.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <set>

#include "src/base/error.h"
#include "src/base/file.h"

namespace octet {

extern const char kRecipeOctet[];      // made by CMake from recipes/octet.yaml
extern const char kRecipeOctetFast[];  // and recipes/octet-fast.yaml

namespace {

// The parameters of one step, taken one by one; what is left over is unknown.
class Parameters {
 public:
  Parameters(const YAML::Node& map, std::string step, std::string where)
      : map_(map), step_(std::move(step)), where_(std::move(where)) {
    if (map_.IsDefined() && !map_.IsNull() && !map_.IsMap())
      throw error("", "a map of parameters", "something else");
  }

  template <typename T>
  T get(const std::string& name, T fallback, const std::string& expected,
        const std::function<bool(T)>& valid) {
    known_.insert(name);
    if (!map_.IsMap() || !map_[name]) return fallback;
    const std::string text = map_[name].IsScalar() ? map_[name].Scalar() : "a list or a map";
    T value;
    try {
      value = map_[name].as<T>();
    } catch (const YAML::Exception&) {
      throw error(name, expected, text);
    }
    if (!valid(value)) throw error(name, expected, text);
    return value;
  }
  template <typename T>
  T choose(const std::string& name, T fallback, const std::map<std::string, T>& words) {
    std::string expected;
    for (const auto& [word, value] : words) expected += (expected.empty() ? "" : ", ") + word;
    const std::string word = get<std::string>(
        name, "", expected, [&](const std::string& w) { return words.contains(w); });
    return word.empty() ? fallback : words.at(word);
  }
  void finish() const {
    if (!map_.IsMap()) return;
    for (const auto& entry : map_)
      if (!known_.contains(entry.first.Scalar()))
        throw error(entry.first.Scalar(), "a parameter of this step", "an unknown one");
  }

 private:
  Error error(const std::string& name, const std::string& expected,
              const std::string& found) const {
    return Error("a wrong parameter in the recipe", ErrorKind::kUsage)
        .file(where_)
        .field(name.empty() ? step_ : step_ + "." + name)
        .expected(expected)
        .found(found);
  }

  YAML::Node map_;
  std::string step_, where_;
  std::set<std::string> known_;
};

bool is_seed(uint64_t) { return true; }
std::function<bool(double)> within(double low, double high) {
  return [=](double v) { return v >= low && v <= high; };
}

using Step = void (*)(Parameters&, Recipe&);
const std::map<std::string, Step>& steps() {
  static const std::map<std::string, Step> all = {
      {"rotate_residual",
       [](Parameters& p, Recipe& r) {
         r.rotate_residual = p.get<uint64_t>("seed", 1, "a whole number", is_seed);
       }},
      {"rotate_values",
       [](Parameters& p, Recipe& r) {
         r.rotate_values = p.get<uint64_t>("seed", 1, "a whole number", is_seed);
       }},
      {"scale_values",
       [](Parameters& p, Recipe& r) {
         r.value_alpha = p.get<double>("alpha", 0.5, "a number from 0 to 1", within(0, 1));
       }},
      {"equalize_mlp",
       [](Parameters& p, Recipe& r) {
         Recipe::EqualizeMlp e;
         e.copies = p.get<double>("copies", 0, "a share from 0 to 1", within(0, 1));
         e.weight_noise =
             p.get<double>("weight_noise", e.weight_noise, "a share from 0 to 4", within(0, 4));
         e.spread = p.get<double>("spread", e.spread, "a share from 0 to 0.9", within(0, 0.9));
         e.margin = p.get<double>("margin", e.margin, "a factor from 0.1 to 10", within(0.1, 10));
         r.equalize_mlp = e;
       }},
      {"choose_types",
       [](Parameters& p, Recipe& r) {
         r.float_budget =
             p.get<size_t>("float_budget", 0, "a number of linears", [](size_t) { return true; });
         const int64_t budget =
             p.get<int64_t>("dynamic_budget", -1, "a number of linears, or -1: wherever it pays",
                            [](int64_t v) { return v >= -1; });
         r.dynamic_budget.reset();
         if (budget >= 0) r.dynamic_budget = static_cast<size_t>(budget);
       }},
      {"find_ranges",
       [](Parameters& p, Recipe& r) {
         r.ranges = p.choose<RangeMethod>(
             "method", RangeMethod::kSearch,
             {{"minmax", RangeMethod::kMinMax}, {"search", RangeMethod::kSearch}});
       }},
      {"round_weights",
       [](Parameters& p, Recipe& r) {
         const bool gptq = p.choose<bool>("method", true, {{"gptq", true}, {"nearest", false}});
         const double damping =
             p.get<double>("damping", 0.01, "a share from 0 to 1", within(1e-6, 1));
         r.gptq_damping.reset();
         if (gptq) r.gptq_damping = damping;
       }},
      {"correct_bias",
       [](Parameters& p, Recipe& r) {
         r.bias = p.choose<BiasTarget>("target", BiasTarget::kFloat,
                                       {{"own", BiasTarget::kOwn}, {"float", BiasTarget::kFloat}});
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
    Parameters p(bare ? YAML::Node() : step.begin()->second, name, where);
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
  std::string s = fmt::format("recipe: {}\nsteps:\n", r.name);
  if (r.rotate_residual)
    s += fmt::format("  - rotate_residual: {{seed: {}}}\n", *r.rotate_residual);
  if (r.rotate_values) s += fmt::format("  - rotate_values: {{seed: {}}}\n", *r.rotate_values);
  if (r.value_alpha > 0) s += fmt::format("  - scale_values: {{alpha: {}}}\n", r.value_alpha);
  if (const auto& e = r.equalize_mlp)
    s += fmt::format("  - equalize_mlp: {{copies: {}, weight_noise: {}, spread: {}, margin: {}}}\n",
                     e->copies, e->weight_noise, e->spread, e->margin);
  s += fmt::format("  - choose_types: {{float_budget: {}, dynamic_budget: {}}}\n", r.float_budget,
                   r.dynamic_budget ? static_cast<int64_t>(*r.dynamic_budget) : int64_t{-1});
  s += fmt::format("  - find_ranges: {{method: {}}}\n",
                   r.ranges == RangeMethod::kSearch ? "search" : "minmax");
  s += r.gptq_damping
           ? fmt::format("  - round_weights: {{method: gptq, damping: {}}}\n", *r.gptq_damping)
           : std::string("  - round_weights: {method: nearest}\n");
  if (r.bias != BiasTarget::kNone)
    s += fmt::format("  - correct_bias: {{target: {}}}\n",
                     r.bias == BiasTarget::kFloat ? "float" : "own");
  return s;
}

}  // namespace octet
