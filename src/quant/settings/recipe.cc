#include "src/quant/settings/recipe.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <initializer_list>
#include <string_view>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/quant/settings/yaml_map.h"

namespace octet {

// Made by CMake from recipes/.
extern const char kRecipeOctet[];
extern const char kRecipeOctetFast[];
extern const char kRecipeMindie[];

namespace {

constexpr std::array<std::pair<const char*, const char*>, 3> kShipped = {
    {{"octet", kRecipeOctet}, {"octet-fast", kRecipeOctetFast}, {"mindie", kRecipeMindie}}};

template <typename T>
using Words = std::vector<std::pair<const char*, T>>;

// Takes a step's fields out of its map.
struct StepReader {
  YamlMap& map;

  void number(const char* name, double& v, double low, double high) {
    v = map.number(name, v, low, high);
  }
  template <typename T>
  void integer(const char* name, T& v, T low, T high) {
    v = static_cast<T>(map.integer(name, static_cast<int64_t>(v), static_cast<int64_t>(low),
                                   static_cast<int64_t>(high)));
  }
  template <typename T>
  void integer(const char* name, std::optional<T>& v, T low, T high) {
    if (map.has(name)) integer(name, v.emplace(low), low, high);
  }
  void flag(const char* name, bool& v) { v = map.flag(name, v); }
  void text(const char* name, std::string& v) { v = map.text(name, v); }
  void names(const char* name, std::optional<std::vector<std::string>>& v) {
    if (map.has(name)) v = map.names(name, {});
  }
  template <typename T>
  void word(const char* name, T& v, const Words<std::type_identity_t<T>>& words) {
    std::vector<std::string> known;
    std::string now;
    for (const auto& [word, value] : words) {
      known.push_back(word);
      if (value == v) now = word;
    }
    now = map.word(name, now, known);
    for (const auto& [word, value] : words)
      if (word == now) v = value;
  }
};

// Writes them as "name: value, ...".
struct Writer {
  std::string out;

  void add(const char* name, std::string_view value) {
    out += fmt::format("{}{}: {}", out.empty() ? "" : ", ", name, value);
  }
  void number(const char* name, double v, double, double) { add(name, fmt::format("{}", v)); }
  template <typename T>
  void integer(const char* name, T v, T, T) {
    add(name, fmt::format("{}", v));
  }
  template <typename T>
  void integer(const char* name, const std::optional<T>& v, T low, T high) {
    if (v) integer(name, *v, low, high);
  }
  void flag(const char* name, bool v) { add(name, v ? "true" : "false"); }
  void text(const char* name, const std::string& v) {
    if (!v.empty()) add(name, v);
  }
  void names(const char* name, const std::optional<std::vector<std::string>>& v) {
    if (v) add(name, fmt::format("[{}]", fmt::join(*v, ", ")));
  }
  template <typename T>
  void word(const char* name, T v, const Words<std::type_identity_t<T>>& words) {
    for (const auto& [word, value] : words)
      if (value == v) add(name, word);
  }
};

template <size_t I = 0>
std::vector<std::string> step_names() {
  if constexpr (I == std::variant_size_v<RecipeStep>) {
    return {};
  } else {
    std::vector<std::string> names = step_names<I + 1>();
    names.insert(names.begin(), std::variant_alternative_t<I, RecipeStep>::kName);
    return names;
  }
}

// The step of that name with its defaults.
template <size_t I = 0>
std::optional<RecipeStep> step_named(const std::string& name) {
  if constexpr (I == std::variant_size_v<RecipeStep>) {
    return std::nullopt;
  } else {
    using Step = std::variant_alternative_t<I, RecipeStep>;
    return name == Step::kName ? RecipeStep(Step{}) : step_named<I + 1>(name);
  }
}

const char* name_of(const RecipeStep& step) {
  return std::visit([](const auto& s) { return s.kName; }, step);
}

}  // namespace

std::optional<double> Recipe::gptq_damping() const {
  const auto* step = find<RoundWeights>();
  return step && step->method == Rounding::kGptq ? std::optional(step->damping) : std::nullopt;
}

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
  for (const auto& step : root["steps"]) {
    const bool bare = step.IsScalar();
    if (!bare && !(step.IsMap() && step.size() == 1))
      throw Error("a step that is no name with parameters", ErrorKind::kUsage)
          .file(fmt::format("{}, line {}", where, step.Mark().line + 1))
          .field("steps");
    const std::string name = bare ? step.Scalar() : step.begin()->first.Scalar();
    std::optional<RecipeStep> known = step_named(name);
    if (!known)
      throw Error("unknown step in the recipe", ErrorKind::kUsage)
          .file(fmt::format("{}, line {}", where, step.Mark().line + 1))
          .expected(fmt::format("{}", fmt::join(step_names(), ", ")))
          .found(name);
    for (const RecipeStep& other : r.steps)
      if (other.index() == known->index())
        throw Error("a step that comes twice", ErrorKind::kUsage)
            .file(fmt::format("{}, line {}", where, step.Mark().line + 1))
            .found(name);
    YamlMap p(bare ? YAML::Node() : step.begin()->second, where, name);
    StepReader reader{p};
    std::visit([&](auto& s) { s.fields(reader); }, *known);
    p.finish();
    r.steps.push_back(*std::move(known));
  }
  if (r.find<MsModelSlim>() != nullptr)
    for (const RecipeStep& step : r.steps)
      if (!std::holds_alternative<MsModelSlim>(step) && !std::holds_alternative<KeepFloat>(step) &&
          !std::holds_alternative<QuantizeKvCache>(step))
        throw Error("this step does not go with msmodelslim", ErrorKind::kUsage)
            .file(where)
            .field(name_of(step));
  return r;
}

Recipe load_recipe(const std::string& name) {
  for (const auto& [shipped, yaml] : kShipped)
    if (name == shipped) return parse_recipe(yaml, "recipe " + name);
  if (!fs::is_regular_file(name))
    throw Error("no such recipe", ErrorKind::kUsage)
        .field("--recipe")
        .expected("octet, octet-fast, mindie, or a file")
        .found(name);
  return parse_recipe(read_text(name), name);
}

std::string to_yaml(const Recipe& r) {
  YAML::Emitter name;  // puts it into quotes where it must be
  name << r.name;
  std::string s = fmt::format("recipe: {}\nsteps:{}\n", name.c_str(), r.steps.empty() ? " []" : "");
  for (RecipeStep step : r.steps) {
    Writer writer;
    std::visit([&](auto& each) { each.fields(writer); }, step);
    s += fmt::format("  - {}", name_of(step));
    s += writer.out.empty() ? "\n" : fmt::format(": {{{}}}\n", writer.out);
  }
  return s;
}

}  // namespace octet
