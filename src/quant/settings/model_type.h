// What msModelSlim's scripts do by --model_type (docs/quantization.md).
#pragma once

#include <string>

#include "src/quant/settings/options.h"

namespace octet {

struct ModelType {
  const char* name;
  bool qwen;               // of quant_qwen.py, otherwise of quant_llama.py
  bool all_down;           // keeps every down_proj in float
  bool first_layers_down;  // ... layers 0-4: down_proj
  bool first_layers;       // ... layers 0-4: the other six linears
  bool head;               // ... lm_head
};
inline constexpr int64_t kFirstLayers = 5;

// The one that options.model_type names, or, without, the one for the family in config.json.
// Throws kUsage Error for an unknown name.
const ModelType& find_model_type(const ModelConfig& config, const QuantizeOptions& options);

// How m6 works: options.flex, or, without, what the model type's script asks for.
FlexSmooth flex_smooth(const ModelConfig& config, const QuantizeOptions& options);

}  // namespace octet
