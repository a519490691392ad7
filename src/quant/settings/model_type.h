// What msModelSlim's scripts do by --model_type (docs/quantization.md).
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "src/checkpoint/model_config.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

struct ModelType {
  const char* name;
  bool qwen = false;               // of quant_qwen.py, otherwise of quant_llama.py
  bool all_down = false;           // keeps every down_proj in float
  bool first_layers_down = false;  // ... layers 0-4: down_proj
  bool first_layers = false;       // ... layers 0-4: the other six linears
  bool head = false;               // ... lm_head
  // Of m6: alpha and beta, nothing = searched; whether it goes with weights only.
  std::optional<std::pair<float, float>> flex = {};
  bool flex_of_weights = true;
};
inline constexpr int64_t kFirstLayers = 5;

// Their names: "llama, llama2, ...".
std::string model_type_list();

// The one of that name, or, for "", the one for the family in config.json. Throws kUsage Error for
// an unknown name.
const ModelType& find_model_type(const ModelConfig& config, const std::string& name);

// How m6 works: tool.flex, or, without, what the model type's script asks for. `keep`: that type,
// and how many layers.
FlexSmooth flex_smooth(const ModelConfig& config, const ToolMethod& tool, const KeepFloat& keep);

}  // namespace octet
