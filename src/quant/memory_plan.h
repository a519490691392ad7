// How much memory a quantization takes (docs/quantize.md, "Memory and disk"), and so how much is
// left for activations.
#pragma once

#include <cstdint>

#include "src/checkpoint/model_config.h"
#include "src/quant/settings/recipe.h"

namespace octet {

// Bytes that one layer takes at most: weights, statistics on `tokens` tokens, buffers of a step,
// and the layer before on its way to disk; without pages of the model's mapped files. `recipe`:
// null for msModelSlim's way.
uint64_t layer_memory(const ModelConfig& config, const Recipe* recipe, size_t tokens);

// What `limit`, or else (0) a rank's share of 90 % of what the machine has left, leaves for
// activations beside `layer` bytes.
uint64_t activation_budget(uint64_t layer, uint64_t limit, size_t ranks_on_host);

}  // namespace octet
