#include "src/checkpoint/layout.h"

#include <array>
#include <cctype>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr std::array<std::pair<Layout, const char*>, 5> kLayouts = {
    {{Layout::kOctet, "octet"},
     {Layout::kMsmodelslim, "msmodelslim"},
     {Layout::kMindie, "mindie"},
     {Layout::kMsmodelslimV1, "msmodelslim_v1"},
     {Layout::kCompressedTensors, "compressed-tensors"}}};

}  // namespace

std::string layout_name(Layout layout) {
  for (const auto& [value, name] : kLayouts)
    if (value == layout) return name;
  OCTET_CHECK(false);
}

std::optional<Layout> parse_layout(const std::string& name) {
  for (const auto& [value, known] : kLayouts)
    if (name == known) return value;
  return std::nullopt;
}

const std::vector<std::string>& layout_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [value, name] : kLayouts) all.push_back(name);
    return all;
  }();
  return names;
}

std::string type_suffix(const std::string& type) {
  std::string suffix = type;
  for (char& c : suffix) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return suffix;
}

std::string weights_stem(Layout layout, const std::string& type) {
  if (layout == Layout::kCompressedTensors) return "model";
  if (layout == Layout::kMsmodelslimV1) return "quant_model_weights";
  return "quant_model_weight_" + type_suffix(type);
}

std::string description_name(Layout layout, const std::string& type) {
  return layout == Layout::kMindie ? "quant_model_description_" + type_suffix(type) + ".json"
                                   : kDescriptionFile;
}

ordered_json make_description(Layout layout, const std::string& type, bool int8_kv,
                              const TensorTypes& types) {
  ordered_json d = ordered_json::object();
  const auto add_head = [&] {
    if (layout != Layout::kMindie) d["version"] = "1.0.0";
    d[kQuantTypeKey] = type;
    if (!int8_kv) return;
    for (const char* key : kKvCacheKeys) d[key] = kKvCacheWord;
  };
  const bool head_last = layout == Layout::kMsmodelslimV1;
  if (!head_last) add_head();
  for (const auto& [name, word] : types) d[name] = word;
  if (!head_last) return d;
  add_head();
  d["metadata"] = ordered_json::object();
  d["group_size"] = 0;
  d["optional"] = ordered_json::object();
  return d;
}

std::string description_text(Layout layout, const ordered_json& description) {
  return description.dump(layout == Layout::kMsmodelslimV1 ? 4 : 2);
}

std::string scheme_word(Scheme scheme, Layout layout) {
  const SchemeRow& row = scheme_row(scheme);
  return layout == Layout::kMindie ? row.mindie_word : row.word;
}

StoredTypes stored_types(Layout layout, DType model) {
  const DType floats = is_msmodelslim_v0(layout) ? DType::kF32 : model;
  return {floats, layout == Layout::kMsmodelslimV1 ? DType::kF32 : floats,
          model == DType::kBF16 ? DType::kF32 : DType::kI64};
}

void add_quantization(ordered_json& config, Layout layout, const ordered_json& description,
                      bool mix, const ordered_json& settings) {
  if (layout != Layout::kOctet && layout != Layout::kMindie) return;
  // What MindIE's ATB backend reads.
  config["quantize"] = type_suffix(description.at(kQuantTypeKey).get<std::string>());
  if (layout == Layout::kOctet) {
    config["quantization_config"] = description;
    return;
  }
  const ordered_json none = nullptr;
  constexpr const char* kMindieKey = kKvCacheKeys[1];
  ordered_json& dictionary = config["quantization_config"];
  dictionary = {{"group_size", 0},
                {kMindieKey, description.value(kMindieKey, none)},
                {"fa_quant_type", none}};
  dictionary.update(settings);
  if (mix) dictionary["pdmix"] = true;
}

bool stores_spare_scales(Layout layout) { return is_msmodelslim_v0(layout); }

bool is_msmodelslim_v0(Layout layout) {
  return layout == Layout::kMsmodelslim || layout == Layout::kMindie;
}

}  // namespace octet
