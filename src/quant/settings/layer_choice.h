// Which linears stay in float, and why.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/recipe.h"

namespace octet {

// Full name of a linear ("model.layers.0.mlp.down_proj", "lm_head") -> the reason, for people.
using KeptInFloat = std::map<std::string, std::string>;

// A linear's score: how hard its input is to quantize (Sensitivity::score).
struct LinearScore {
  std::string name;
  double score;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(LinearScore, name, score)

// Names given, else the model type's defaults; the last linear; the rest of their groups (q/k/v,
// gate/up). Throws kUsage Error for an unknown name or model type.
//
// Here and below a group, which loaders refuse with mixed types, stays whole in every layout but
// those of msModelSlim v0. `scheme`: of what is quantized; scripts for LLaMA have no defaults where
// it is weights only.
KeptInFloat choose_by_name(const ModelConfig& config, const OutputSettings& output, Scheme scheme);

// With a disable_threshold: the linears that are scored, those named or every down_proj (and
// lm_head, for Qwen types); and those of them that stay in float because their score, a
// QuantileScore, is above the threshold, with the last linear and groups as above.
std::vector<std::string> threshold_candidates(const ModelConfig& config, const KeepFloat& named);
KeptInFloat choose_by_threshold(const ModelConfig& config, const OutputSettings& output,
                                double threshold, const std::vector<LinearScore>& scores);

// With a type for every linear: what is float there, groups as above. Throws kUsage Error for a
// group of two quantized types.
KeptInFloat choose_by_types(const ModelConfig& config, const std::map<std::string, Scheme>& types);

// Adds the `count` linears with the highest scores (ties in order of execution), all if there are
// fewer. `whole_groups`: q/k/v, and gate/up, go back together, so one more or two may be added;
// loaders refuse a group of mixed types.
void choose_by_score(const std::vector<LinearScore>& scores, size_t count, bool whole_groups,
                     KeptInFloat& kept);

// The linears kept whose group is not kept whole, as the tool's rollback cuts q/k/v and gate/up.
std::vector<std::string> cut_from_groups(const KeptInFloat& kept);

// The type of every linear and of lm_head: kFloat for what is kept, else `scheme`.
std::map<std::string, Scheme> types_of(const ModelConfig& config, const KeptInFloat& kept,
                                       Scheme scheme);

}  // namespace octet
