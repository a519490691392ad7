// Quantization as msModelSlim does it: what the flags of its quant_llama.py and quant_qwen.py say,
// and the practices of its v1.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "src/checkpoint/architecture.h"
#include "src/checkpoint/scheme.h"
#include "src/quant/layer/rotation.h"
#include "src/quant/settings/anti_method.h"
#include "src/quant/settings/name_filter.h"
#include "src/quant/settings/recipe.h"

namespace octet {

// How ranges of static inputs are learnt (--act_method): from extremes, a histogram, or by what
// either loses. docs/quantization.md, "Observers".
enum class ActMethod { kMinMax = 1, kHistogram = 2, kAuto = 3 };

// m6: scale = input amplitude ^ alpha / weight amplitude ^ beta.
struct FlexSmooth {
  std::optional<std::pair<float, float>> exponents;  // alpha, beta; nothing = searched per group
  // o_proj of layers below this keep their inputs (nothing moves from v into o); the scripts name
  // the o_proj of all layers.
  int64_t o_kept_below = 0;
  // v1: searched with a scale per token, and heads of a group get their mean, not their maximum.
  bool as_v1 = false;
};

// Outlier suppression in the words of msModelSlim v1: where it works, and its exponents.
struct SmoothScope {
  bool after_norm = true, from_v = true, from_up = true;  // which sources give a scale away
  NameFilter sources;                                     // of those, which by name
  std::optional<float> alpha;  // input amplitude ^ alpha / weight amplitude ^ (1 - alpha)
  // `source`: of the part, by its full name.
  bool takes(const std::string& source, LayerPart part) const;
};

// Ranges of static inputs: the mean of the samples' extremes, or the extremes of all; equal on both
// sides or not.
struct RangeRule {
  bool extremes = false, symmetric = false;
  bool operator==(const RangeRule&) const = default;
};

// Keys are divided, and queries multiplied, by |key| ^ power per channel pair of rope.
struct KeySmooth {
  double power = 1;
  NameFilter attention;
};

// By what a ToolMethod was asked for: flags, a recipe of the step msmodelslim, or the YAML of a
// practice of v1. The latter two are written beside the result.
struct ToolFlags {};
struct PracticeYaml {
  std::string text;
};
using ToolOrigin = std::variant<ToolFlags, Recipe, PracticeYaml>;

struct ToolMethod {
  ToolOrigin origin;
  Scheme scheme = Scheme::kW8A8;    // of the linears that are quantized; not kFloat
  bool asymmetric_weights = false;  // with kW8A16 only
  ActMethod act_method = ActMethod::kMinMax;
  AntiMethod anti_method = AntiMethod::kNone;
  std::optional<FlexSmooth> flex;  // nothing = what the tool's script does for the model type
  size_t disable_level = 0;        // N of LN: linears that go back to float
  // Above zero: of the linears that would stay in float by name, only those with a higher score
  // (QuantileScore) do.
  double disable_threshold = 0;
  // Of practices of v1. `types`: of every linear, lm_head among them, in place of `scheme` and of
  // what keeps linears in float by name.
  std::map<std::string, Scheme> types;
  std::optional<SmoothScope> smooth;  // nothing = the method's own
  RangeRule range_rule;
  RotationOptions rotations;
  std::optional<KeySmooth> key_smooth;
};

// As the flag spells it: "L5".
std::string disable_level_name(size_t level);

// Whether any linear may get a static range of its input, learnt by calibration.
bool has_static_ranges(const ToolMethod& method);
// Whether any may get scales token by token.
bool may_scale_per_token(const ToolMethod& method);
// Whether scores of linears (Sensitivity) are asked for.
bool needs_scores(const ToolMethod& method);
// Whether something is learnt from the texts for outliers.
bool learns_from_outliers(const ToolMethod& method);

}  // namespace octet
