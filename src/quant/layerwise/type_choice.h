// Which linears get one scale for all tokens, which one per token, and which stay in float: by the
// error that each choice costs the residual stream, measured on calibration text.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"
#include "src/quant/settings/layer_choice.h"
#include "src/quant/settings/recipe.h"

namespace octet {

// A group of linears that share an input, and the error that each type would add to the residual
// stream, relative to it.
struct GroupCost {
  std::vector<std::string> linears;
  double fixed = 0, per_token = 0;
  uint64_t bytes = 0;  // that float weights take more
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(GroupCost, linears, fixed, per_token, bytes)

// Starts from `types` (kFloat for what is kept, kW8A8 for the rest). At most
// budgets.dynamic_budget linears become kW8A8Dynamic, largest gain first (kWhereItPays, or nothing:
// where the gain is above half a percent of the whole error); then at most budgets.float_budget
// become kFloat, largest gain a byte first, with their reason in `kept`.
void choose_types(const std::vector<GroupCost>& costs, const ChooseTypes& budgets,
                  std::map<std::string, Scheme>& types, KeptInFloat& kept);

}  // namespace octet
