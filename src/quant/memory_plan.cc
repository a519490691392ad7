#include "src/quant/memory_plan.h"

#include <algorithm>

#include "src/machine/topology.h"
#include "src/quant/layerwise/calibration_tokens.h"

namespace octet {

uint64_t layer_memory(const ModelConfig& config, const Recipe* recipe, size_t tokens) {
  constexpr double kStepRows = 1024;
  const double h = static_cast<double>(config.hidden_size),
               q = static_cast<double>(config.q_size());
  const double kv = static_cast<double>(config.kv_size());
  const double copies = recipe != nullptr ? recipe->or_default<EqualizeMlp>().copies : 0;
  const double inter = static_cast<double>(config.intermediate_size) * (1 + copies) + 64;
  const double weights = h * (2 * q + 2 * kv + 3 * inter);
  // In float32, in int8 as results and as what is computed with, and the layer before in int8.
  const double standing = 4 * weights + 3 * weights;
  const double running = 4 * weights;  // while floats run: the same packed
  // While down is rounded: its input on the grid, and its Hessian.
  const double part = static_cast<double>(std::min(tokens, kSubsetTokens));
  double rounding = recipe != nullptr ? 4 * part * inter : 0;
  if (recipe != nullptr && recipe->gptq_damping())
    rounding += 4 * std::max(inter, h) * std::max(inter, h);
  const double step = 4 * kStepRows * (2 * h + 2 * q + 2 * kv + 2 * inter);
  return static_cast<uint64_t>(standing + std::max(running, rounding) + step);
}

uint64_t activation_budget(uint64_t layer, uint64_t limit, size_t ranks_on_host) {
  if (limit == 0) limit = available_memory_bytes() / 10 * 9 / ranks_on_host;
  return limit > layer ? limit - layer : 0;
}

}  // namespace octet
