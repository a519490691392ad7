// Outlier suppression: per-channel scales moved from a group's input into its weights, fused into
// what makes that input. Methods m1 to m6 of msModelSlim v0 ("Outlier suppression" in
// docs/quantization.md).
#pragma once

#include <memory>
#include <vector>

#include "src/machine/thread_team.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/msmodelslim/outlier_stats.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

// What a method takes its statistics from.
struct OutlierNeeds {
  size_t batches = SIZE_MAX;  // so many at most, spread evenly from the first on
  KeepInputs keep = KeepInputs::kNone;
  bool deviation = false;
};
// A group to be smoothed.
struct SmoothTarget {
  const OutlierStats& stats;
  std::vector<const FloatWeight*> weights;
  // Neighbouring heads of the input [heads, k / heads] that one head of the source feeds: they get
  // one scale. 1 for groups fed by a norm or by up_proj.
  size_t heads = 1, group_heads = 1;
};

class OutlierMethod {
 public:
  virtual ~OutlierMethod() = default;
  virtual OutlierNeeds stats() const { return {}; }
  // Whether it moves anything into the linears of the part; parts behind a norm, unless said
  // otherwise.
  virtual bool applies(LayerPart part, int64_t layer) const;
  // The scale [k] of the group's input: inputs are divided by it, weight columns multiplied.
  virtual std::vector<float> scale(const SmoothTarget& target, ThreadTeam& team) const = 0;
};
// `method.anti_method`; null for none. `flex`: of m6; `as_the_tool`: with v0's defects.
std::unique_ptr<OutlierMethod> make_outlier_method(const ToolMethod& method, const FlexSmooth& flex,
                                                   bool as_the_tool);

}  // namespace octet
