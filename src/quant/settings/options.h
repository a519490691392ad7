// What to quantize and how: the flags of msModelSlim's quant_llama.py and quant_qwen.py that this
// program takes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/checkpoint/model_config.h"
#include "src/checkpoint/quant_description.h"
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
};

// Keys are divided, and queries multiplied, by |key| ^ power per channel pair of rope.
struct KeySmooth {
  double power = 1;
  NameFilter attention;
};

struct QuantizeOptions {
  // Written beside the result. Its steps are Octet's own quantization, of the members below only
  // disable_names, disable_last_linear and those that concern files then count; but one of the
  // step msmodelslim, which take_recipe turns into the members, and none at all, are the tool's
  // way.
  std::optional<Recipe> recipe;
  Scheme scheme = Scheme::kW8A8;    // of the linears that are quantized; not kFloat
  bool asymmetric_weights = false;  // with kW8A16 only
  bool quantize_kv_cache = false;   // "C8": static int8 keys and values
  ActMethod act_method = ActMethod::kMinMax;
  AntiMethod anti_method = AntiMethod::kNone;
  std::optional<FlexSmooth> flex;  // nothing = what the tool's script does for the model type
  // Of msModelSlim v1. `types`: of every linear, lm_head among them, in place of `scheme` and the
  // members that keep linears in float.
  std::map<std::string, Scheme> types;
  std::optional<SmoothScope> smooth;  // nothing = the method's own
  RangeRule range_rule;
  RotationOptions rotations;
  std::optional<KeySmooth> key_smooth;
  size_t disable_level = 0;  // N of LN: linears that go back to float
  // Above zero: of the linears that would stay in float by name, only those with a higher score
  // (QuantileScore) do.
  double disable_threshold = 0;
  // Linears kept in float, by full name; nothing = the model type's defaults.
  std::optional<std::vector<std::string>> disable_names;
  std::string model_type;           // "" = from config.json
  int64_t layer_count = 0;          // layers that the default name lists cover; 0 = all
  bool disable_last_linear = true;  // lm_head stays in float
  bool compat_msmodelslim = false;  // the tool's own files and arithmetic (v0)
  bool mindie_format = false;       // with compat: its older layout
  bool v1_files = false;            // msModelSlim v1's files
  uint64_t part_bytes = 0;          // shard size; 0 = one file
  bool overwrite = false;
  bool resume = false;             // go on with what an interrupted run left
  uint64_t memory_limit = 0;       // bytes; activations beyond it go into a file; 0 = what is free
  bool quiet = false;              // no progress on stderr
  std::vector<std::string> notes;  // on these choices, for people; the report shows them
  std::string practice;  // the YAML of msModelSlim v1 that these come from; written beside
                         // the result, where there is one

  Layout layout() const;
  bool layerwise() const { return recipe && !recipe->find<MsModelSlim>(); }
  // The recipe's settings, but for what linears stay in float where that was said before.
  void take_recipe(Recipe r);
  // The recipe with all that decides the bytes beside the text; there must be one.
  Recipe whole_recipe() const;
};

// Settles what depends on the float model's dtype: how many linears a recipe gives scales per token
// where nobody has named a number. vLLM-Ascend refuses such linears in float16 models, which
// becomes a note.
void settle(QuantizeOptions& options, DType model);

// As the flag spells it: "L5".
std::string disable_level_name(size_t level);

// Whether any linear may get a static range of its input, learnt by calibration.
bool has_static_ranges(const QuantizeOptions& options);

// The dtype in which float tensors and input scales are written: the model's own, or float32 as
// msModelSlim does on a CPU.
inline DType stored_dtype(const ModelConfig& config, const QuantizeOptions& options) {
  return options.compat_msmodelslim ? DType::kF32 : config.dtype;
}

}  // namespace octet
