// The layouts of files in which a quantized checkpoint can stand: names of files, and where and how
// its types are described (docs/formats.md).
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/json.h"
#include "src/checkpoint/scheme.h"

namespace octet {

enum class Layout {
  kOctet,              // what `octet quantize` writes: MindIE's and vLLM-Ascend's at once
  kMsmodelslim,        // msModelSlim v0
  kMindie,             // ... with --mindie_format
  kMsmodelslimV1,      // msModelSlim v1
  kCompressedTensors,  // llm-compressor's; read by vLLM and transformers
};

std::string layout_name(Layout layout);  // "octet", "msmodelslim", "mindie", ...
std::optional<Layout> parse_layout(const std::string& name);
const std::vector<std::string>& layout_names();

// The description's name in all layouts but MindIE's older one.
inline constexpr const char* kDescriptionFile = "quant_model_description.json";
// Its keys of an int8 KV cache: vLLM-Ascend reads the first, MindIE the second.
inline constexpr const char* kKvCacheKeys[] = {"kv_cache_type", "kv_quant_type"};
// ... of the type that stands for the model.
inline constexpr const char* kQuantTypeKey = "model_quant_type";

// Of a checkpoint whose types together are called `type` ("W8A8"): the type in names of files
// ("w8a8"), the weight files' name without ".safetensors" or shard number, and the description's.
std::string type_suffix(const std::string& type);
std::string weights_stem(Layout layout, const std::string& type);
std::string description_name(Layout layout, const std::string& type);

// The description: `types` are the tensors' names with their types, in order. Not of
// kCompressedTensors.
using TensorTypes = std::vector<std::pair<std::string, std::string>>;
ordered_json make_description(Layout layout, const std::string& type, bool int8_kv,
                              const TensorTypes& types);
std::string description_text(Layout layout, const ordered_json& description);

// A type's word in the layout, which may not have them all.
std::string scheme_word(Scheme scheme, Layout layout);
// In which dtypes the numbers of a model of `model` stand.
StoredTypes stored_types(Layout layout, DType model);
// What config.json says of the quantization, where `description` is what make_description() made of
// it; MindIE's older layout has `settings` there, and says apart that some types are W8A8_MIX
// (`mix`). Not of kCompressedTensors.
void add_quantization(ordered_json& config, Layout layout, const ordered_json& description,
                      bool mix, const ordered_json& settings = ordered_json::object());

// Whether static W8A8 linears have their weight_scale and weight_offset stored, which deq_scale
// holds already.
bool stores_spare_scales(Layout layout);
// Whether files, and the arithmetic that made them, are those of msModelSlim v0 (on a CPU): all
// floats in float32, its defects kept.
bool is_msmodelslim_v0(Layout layout);
// Whether linears that loaders fuse (q/k/v, gate/up) must have one type.
inline bool keeps_groups_whole(Layout layout) { return !is_msmodelslim_v0(layout); }

}  // namespace octet
