// A recipe: the steps of a quantization with their parameters. It is data: a YAML file
// (docs/recipes.md), written into every output so that a result can be made again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "src/quant/settings/anti_method.h"
#include "src/quant/settings/range_fit.h"

namespace octet {

enum class Rounding { kNearest, kGptq };
enum class BiasTarget { kFloat, kOwn };

// Every step has its name in a recipe, its parameters with their defaults, and `fields`, which
// passes each of them to a reader or writer with the values that it may have. What a step does:
// docs/recipes.md.

struct RotateResidual {
  static constexpr const char* kName = "rotate_residual";
  uint64_t seed = 1;
  void fields(auto& f) { f.integer("seed", seed, uint64_t{0}, uint64_t{1} << 62); }
};

struct RotateValues {
  static constexpr const char* kName = "rotate_values";
  uint64_t seed = 1;
  void fields(auto& f) { f.integer("seed", seed, uint64_t{0}, uint64_t{1} << 62); }
};

struct FlipNormSigns {
  static constexpr const char* kName = "turn_norms";
  void fields(auto&) {}
};

struct EqualizeValues {
  static constexpr const char* kName = "equalize_values";
  double margin = 1;  // on the cross-validated one
  void fields(auto& f) { f.number("margin", margin, 0.1, 10); }
};

struct EqualizeMlp {
  static constexpr const char* kName = "equalize_mlp";
  double copies = 0;  // channels added, as a share of intermediate_size
  double weight_noise = 0.5;
  double spread = 0.15;
  double margin = 1;  // on the cross-validated one
  void fields(auto& f) {
    f.number("copies", copies, 0, 1);
    f.number("weight_noise", weight_noise, 0, 4);
    f.number("spread", spread, 0, 0.9);
    f.number("margin", margin, 0.1, 10);
  }
};

struct ChooseTypes {
  static constexpr const char* kName = "choose_types";
  static constexpr int64_t kWhereItPays = -1;
  static constexpr int64_t kMany = int64_t{1} << 32;  // more linears than any model has
  // At most so many linears in float, and per token (nothing: settle() in options.h decides).
  int64_t float_budget = 0;
  std::optional<int64_t> dynamic_budget;
  void fields(auto& f) {
    f.integer("float_budget", float_budget, int64_t{0}, kMany);
    f.integer("dynamic_budget", dynamic_budget, kWhereItPays, kMany);
  }
};

struct FindRanges {
  static constexpr const char* kName = "find_ranges";
  RangeFit fit;
  void fields(auto& f) {
    f.word("method", fit.method,
           {{"search", RangeMethod::kSearch},
            {"quantile", RangeMethod::kQuantile},
            {"minmax", RangeMethod::kMinMax}});
    f.number("quantile", fit.quantile, 0.5, 1);
    double margin = fit.margin.value_or(0);  // 0: by cross-validation
    f.number("margin", margin, 0, 10);
    fit.margin = margin > 0 ? std::optional(margin) : std::nullopt;
  }
};

struct RoundWeights {
  static constexpr const char* kName = "round_weights";
  Rounding method = Rounding::kGptq;
  double damping = 0.01;  // of GPTQ
  void fields(auto& f) {
    f.word("method", method, {{"gptq", Rounding::kGptq}, {"nearest", Rounding::kNearest}});
    f.number("damping", damping, 1e-6, 1);
  }
};

struct CorrectBias {
  static constexpr const char* kName = "correct_bias";
  BiasTarget target = BiasTarget::kFloat;
  void fields(auto& f) {
    f.word("target", target, {{"float", BiasTarget::kFloat}, {"own", BiasTarget::kOwn}});
  }
};

// What stays in float whatever it costs.
struct KeepFloat {
  static constexpr const char* kName = "keep_float";
  std::optional<std::vector<std::string>> names;  // nothing: none, or the model type's defaults
  bool last_linear = true;
  // Of msModelSlim's way: whose defaults, and how many layers they cover (0 = all).
  std::string model_type;
  int64_t layer_count = 0;
  void fields(auto& f) {
    f.names("names", names);
    f.flag("last_linear", last_linear);
    f.text("model_type", model_type);
    f.integer("layer_count", layer_count, int64_t{0}, ChooseTypes::kMany);
  }
  bool operator==(const KeepFloat&) const = default;
};

struct QuantizeKvCache {
  static constexpr const char* kName = "quantize_kv_cache";
  void fields(auto&) {}
};

// All linears as msModelSlim does it; of the other steps only keep_float and quantize_kv_cache go
// with it. The parameters are the tool's flags.
struct MsModelSlim {
  static constexpr const char* kName = "msmodelslim";
  AntiMethod anti_method = AntiMethod::kNone;
  int64_t act_method = 1;
  int64_t disable_level = 0;  // 5 = L5
  void fields(auto& f) {
    f.word("anti_method", anti_method, anti_method_words());
    f.integer("act_method", act_method, int64_t{1}, int64_t{3});
    f.integer("disable_level", disable_level, int64_t{0}, ChooseTypes::kMany);
  }
};

using RecipeStep = std::variant<RotateResidual, RotateValues, FlipNormSigns, EqualizeValues,
                                EqualizeMlp, ChooseTypes, FindRanges, RoundWeights, CorrectBias,
                                KeepFloat, QuantizeKvCache, MsModelSlim>;

struct Recipe {
  std::string name;
  std::vector<RecipeStep> steps;  // each kind at most once

  // The step, or null.
  template <typename Step>
  const Step* find() const {
    for (const RecipeStep& step : steps)
      if (const Step* found = std::get_if<Step>(&step)) return found;
    return nullptr;
  }
  // The step, added with its defaults where it is not there.
  template <typename Step>
  Step& get() {
    for (RecipeStep& step : steps)
      if (Step* found = std::get_if<Step>(&step)) return *found;
    return std::get<Step>(steps.emplace_back(Step{}));
  }
  // GPTQ's damping; nothing: weights are rounded to nearest.
  std::optional<double> gptq_damping() const;
  // The step's parameters, or their defaults.
  template <typename Step>
  Step or_default() const {
    const Step* found = find<Step>();
    return found != nullptr ? *found : Step{};
  }
};

// The shipped recipe of that name (recipes/*.yaml), or the file. Throws kUsage Error naming line
// and field.
Recipe load_recipe(const std::string& name_or_file);
Recipe parse_recipe(const std::string& yaml, const std::string& where);
std::string to_yaml(const Recipe& recipe);

}  // namespace octet
