#include "src/quant/settings/options.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/error.h"

namespace octet {
namespace {

// Whether linears may get types that scale tokens one by one, which a float16 model's should not.
bool may_scale_per_token(const QuantizeOptions& o) {
  if (o.layerwise()) return o.recipe->or_default<ChooseTypes>().dynamic_budget != 0;
  if (o.types.empty()) return scales_per_token(o.scheme);
  return std::any_of(o.types.begin(), o.types.end(),
                     [](const auto& type) { return scales_per_token(type.second); });
}

}  // namespace

Layout QuantizeOptions::layout() const {
  if (v1_files) return Layout::kMsmodelslimV1;
  if (!compat_msmodelslim) return Layout::kOctet;
  return mindie_format ? Layout::kMindie : Layout::kMsmodelslim;
}

void QuantizeOptions::take_recipe(Recipe r) {
  quantize_kv_cache = r.find<QuantizeKvCache>() != nullptr;
  if (const auto* step = r.find<MsModelSlim>()) {
    anti_method = *parse_anti_method(step->anti_method);
    act_method = static_cast<ActMethod>(step->act_method);
    disable_level = as_size(step->disable_level);
  }
  if (const auto* step = r.find<KeepFloat>()) {
    if (!disable_names) disable_names = step->names;
    disable_last_linear &= step->last_linear;
    if (model_type.empty()) model_type = step->model_type;
    if (layer_count == 0) layer_count = step->layer_count;
  }
  recipe = std::move(r);
}

Recipe QuantizeOptions::whole_recipe() const {
  Recipe whole = *recipe;
  if (disable_names || !disable_last_linear || !model_type.empty() || layer_count != 0)
    whole.get<KeepFloat>() = {disable_names, disable_last_linear, model_type, layer_count};
  return whole;
}

bool SmoothScope::takes(const std::string& source, LayerPart part) const {
  const bool wanted = part == LayerPart::kO      ? from_v
                      : part == LayerPart::kDown ? from_up
                                                 : after_norm;
  return wanted && sources.takes(source);
}

void settle(QuantizeOptions& o, DType model) {
  const bool half = model == DType::kF16;
  if (o.layerwise() && !o.recipe->or_default<ChooseTypes>().dynamic_budget) {
    o.recipe->get<ChooseTypes>().dynamic_budget = half ? 0 : ChooseTypes::kWhereItPays;
    if (half)
      o.notes.push_back(
          "no linear gets scales per token, since vLLM-Ascend refuses W8A8_DYNAMIC in float16 "
          "models; --dynamic_budget N gives them to N linears all the same");
  }
  if (half && may_scale_per_token(o))
    o.notes.push_back(
        "W8A8_DYNAMIC and W8A8_MIX in a float16 model: MindIE takes them, vLLM-Ascend does not, "
        "which takes them in bfloat16 models only");
}

bool has_static_ranges(const QuantizeOptions& o) {
  if (o.layerwise()) return true;
  if (o.types.empty()) return has_static_input(o.scheme);
  return std::any_of(o.types.begin(), o.types.end(),
                     [](const auto& type) { return has_static_input(type.second); });
}

std::string disable_level_name(size_t level) { return fmt::format("L{}", level); }

}  // namespace octet
