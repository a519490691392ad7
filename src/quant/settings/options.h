// What to quantize, how, and into what.
#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "src/checkpoint/dtype.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/recipe.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

// How a run goes about it; nothing here reaches the output.
struct RunSettings {
  bool overwrite = false;
  bool resume = false;        // go on with what an interrupted run left
  uint64_t memory_limit = 0;  // bytes; activations beyond it go into a file; 0 = what is free
  bool quiet = false;         // no progress on stderr
};

struct QuantizeOptions {
  OutputSettings output;
  // msModelSlim's way, or Octet's own by a recipe.
  std::variant<ToolMethod, Recipe> method;
  RunSettings run;
  std::vector<std::string> notes;  // on these choices, for people; the report shows them

  // Octet's own way; null for the tool's.
  Recipe* layerwise() { return std::get_if<Recipe>(&method); }
  const Recipe* layerwise() const { return std::get_if<Recipe>(&method); }
  // The tool's way, which it must be.
  ToolMethod& tool() { return std::get<ToolMethod>(method); }
  const ToolMethod& tool() const { return std::get<ToolMethod>(method); }

  // By a recipe: one of the step msmodelslim adds to the tool's settings, if there are some, others
  // take their place.
  // Of what stays in float, what was said before counts.
  void take_recipe(Recipe r);
  // The recipe, of either way, with all that decides the bytes beside the text; null without one.
  std::optional<Recipe> whole_recipe() const;
  // The practice of msModelSlim v1; null without one.
  const PracticeYaml* practice() const;
};

// Settles what depends on the float model's dtype: how many linears a recipe gives scales per token
// where nobody has named a number. vLLM-Ascend refuses such linears in float16 models, which
// becomes a note.
void settle(QuantizeOptions& options, DType model);

// Whether any linear may get a static range of its input, learnt by calibration.
bool has_static_ranges(const QuantizeOptions& options);
// The same, or of keys and values.
bool learns_ranges(const QuantizeOptions& options);
// Whether a run learns anything from samples; `outlier`: outlier suppression and the threshold have
// texts of their own.
bool needs_samples(const QuantizeOptions& options, bool outlier);

}  // namespace octet
