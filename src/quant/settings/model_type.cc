#include "src/quant/settings/model_type.h"

#include <fmt/format.h>

#include <array>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr std::pair kQwenFlex(0.6f, 0.3f);

constexpr std::array<ModelType, 10> kModelTypes = {{
    {.name = "llama", .all_down = true},
    {.name = "llama2", .all_down = true},
    {.name = "llama3", .first_layers_down = true, .first_layers = true, .head = true},
    {.name = "llama3.1_bf", .all_down = true},
    {.name = "llama3.1_fp", .all_down = true, .first_layers = true, .head = true},
    {.name = "llama3.1_instruct", .all_down = true, .first_layers = true, .head = true},
    {.name = "qwen1.5", .qwen = true, .all_down = true, .head = true, .flex = kQwenFlex},
    {.name = "qwen2", .qwen = true, .all_down = true, .head = true, .flex = kQwenFlex},
    {.name = "qwen2.5", .qwen = true, .all_down = true, .head = true, .flex = kQwenFlex},
    {.name = "qwen3",
     .qwen = true,
     .all_down = true,
     .head = true,
     .flex = std::pair(0.4f, 0.325f),
     .flex_of_weights = false},
}};

}  // namespace

std::string model_type_list() {
  std::string names;
  for (const ModelType& t : kModelTypes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", t.name);
  return names;
}

const ModelType& find_model_type(const ModelConfig& config, const std::string& given) {
  const std::string name = given.empty() ? architecture(config.family).tool_type : given;
  for (const ModelType& t : kModelTypes)
    if (name == t.name) return t;
  throw Error("unknown model type", ErrorKind::kUsage)
      .field("--model_type")
      .expected(model_type_list())
      .found(name);
}

FlexSmooth flex_smooth(const ModelConfig& config, const ToolMethod& tool, const KeepFloat& keep) {
  if (tool.flex) return *tool.flex;
  const ModelType& type = find_model_type(config, keep.model_type);
  FlexSmooth flex;
  flex.exponents = type.flex;
  flex.o_kept_below = keep.layer_count > 0 ? keep.layer_count : config.layers;
  return flex;
}

}  // namespace octet
