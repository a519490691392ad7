#include "src/quant/settings/model_type.h"

#include <fmt/format.h>

#include <array>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr std::array<ModelType, 10> kModelTypes = {{
    {"llama", false, true, false, false, false},
    {"llama2", false, true, false, false, false},
    {"llama3", false, false, true, true, true},
    {"llama3.1_bf", false, true, false, false, false},
    {"llama3.1_fp", false, true, false, true, true},
    {"llama3.1_instruct", false, true, false, true, true},
    {"qwen1.5", true, true, false, false, true},
    {"qwen2", true, true, false, false, true},
    {"qwen2.5", true, true, false, false, true},
    {"qwen3", true, true, false, false, true},
}};

}  // namespace

const ModelType& find_model_type(const ModelConfig& config, const std::string& given) {
  const std::string name = given.empty() ? architecture(config.family).tool_type : given;
  std::string known;
  for (const ModelType& t : kModelTypes) {
    if (name == t.name) return t;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", t.name);
  }
  throw Error("unknown model type", ErrorKind::kUsage)
      .field("--model_type")
      .expected(known)
      .found(name);
}

FlexSmooth flex_smooth(const ModelConfig& config, const ToolMethod& tool, const KeepFloat& keep) {
  if (tool.flex) return *tool.flex;
  const ModelType& type = find_model_type(config, keep.model_type);
  FlexSmooth flex;
  if (type.qwen)
    flex.exponents =
        std::string(type.name) == "qwen3" ? std::pair(0.4f, 0.325f) : std::pair(0.6f, 0.3f);
  flex.o_kept_below = keep.layer_count > 0 ? keep.layer_count : config.layers;
  return flex;
}

}  // namespace octet
