#include "src/quant/settings/options.h"

#include "src/base/checked.h"

namespace octet {

void QuantizeOptions::take_recipe(Recipe r) {
  output.quantize_kv_cache = r.find<QuantizeKvCache>() != nullptr;
  if (const auto* step = r.find<KeepFloat>()) {
    KeepFloat& keep = output.keep_float;
    if (!keep.names) keep.names = step->names;
    keep.last_linear &= step->last_linear;
    if (keep.model_type.empty()) keep.model_type = step->model_type;
    if (keep.layer_count == 0) keep.layer_count = step->layer_count;
  }
  const auto* step = r.find<MsModelSlim>();
  if (step == nullptr) {
    method = std::move(r);
    return;
  }
  if (layerwise()) method = ToolMethod{};
  tool().anti_method = step->anti_method;
  tool().act_method = static_cast<ActMethod>(step->act_method);
  tool().disable_level = as_size(step->disable_level);
  tool().origin = std::move(r);
}

std::optional<Recipe> QuantizeOptions::whole_recipe() const {
  const Recipe* recipe = layerwise();
  if (recipe == nullptr) recipe = std::get_if<Recipe>(&tool().origin);
  if (recipe == nullptr) return std::nullopt;
  Recipe whole = *recipe;
  if (output.keep_float != KeepFloat{}) whole.get<KeepFloat>() = output.keep_float;
  return whole;
}

const PracticeYaml* QuantizeOptions::practice() const {
  return layerwise() ? nullptr : std::get_if<PracticeYaml>(&tool().origin);
}

void settle(QuantizeOptions& o, DType model) {
  const bool half = model == DType::kF16;
  Recipe* recipe = o.layerwise();
  if (recipe != nullptr && !recipe->or_default<ChooseTypes>().dynamic_budget) {
    recipe->get<ChooseTypes>().dynamic_budget = half ? 0 : ChooseTypes::kWhereItPays;
    if (half)
      o.notes.push_back(
          "no linear gets scales per token, since vLLM-Ascend refuses W8A8_DYNAMIC in float16 "
          "models; --dynamic_budget N gives them to N linears all the same");
  }
  const bool per_token = recipe != nullptr ? recipe->or_default<ChooseTypes>().dynamic_budget != 0
                                           : may_scale_per_token(o.tool());
  if (half && per_token)
    o.notes.push_back(
        "W8A8_DYNAMIC and W8A8_MIX in a float16 model: MindIE takes them, vLLM-Ascend does not, "
        "which takes them in bfloat16 models only");
}

bool has_static_ranges(const QuantizeOptions& o) {
  return o.layerwise() != nullptr || has_static_ranges(o.tool());
}

bool learns_ranges(const QuantizeOptions& o) {
  return has_static_ranges(o) || o.output.quantize_kv_cache;
}

bool needs_samples(const QuantizeOptions& o, bool outlier) {
  if (learns_ranges(o)) return true;
  const ToolMethod& tool = o.tool();
  return needs_scores(tool) || tool.key_smooth || (learns_from_outliers(tool) && !outlier);
}

}  // namespace octet
