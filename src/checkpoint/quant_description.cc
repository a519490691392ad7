#include "src/checkpoint/quant_description.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/base/json_member.h"
#include "src/checkpoint/layout.h"

namespace octet {
namespace {

// msModelSlim's sparse types, which Octet does not have: their description is found all the same,
// so that the type is refused and the folder not taken for a float one.
constexpr const char* kForeignTypes[] = {"W8A8S", "W8A8SC"};

// The names a description file may end in.
const std::vector<std::string>& description_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all = {kDescriptionFile};
    for (const SchemeRow& row : scheme_rows())
      if (row.int8_weights) all.push_back(description_name(Layout::kMindie, row.word));
    for (const char* type : kForeignTypes) all.push_back(description_name(Layout::kMindie, type));
    return all;
  }();
  return names;
}

// Whether one of the keys by which loaders know it (vLLM-Ascend, MindIE) asks for an int8 KV cache.
bool asks_int8_kv(const ordered_json& raw, const std::string& source) {
  bool found = false;
  for (const char* key : kKvCacheKeys) {
    const ordered_json* word = find_member(raw, key);
    if (word == nullptr || !word->is_string() || *word == "") continue;
    if (*word != kKvCacheWord)
      throw Error("this type of KV cache is not supported")
          .file(source)
          .field(key)
          .expected(kKvCacheWord)
          .found(word->get<std::string>());
    found = true;
  }
  return found;
}

// Tensor entries have a dot in their name; what has none is a top-level key.
QuantDescription from_json(const ordered_json& raw, std::string source) {
  QuantDescription d;
  d.source = std::move(source);
  d.raw = raw;
  d.int8_kv = asks_int8_kv(raw, d.source);
  for (const auto& [key, value] : raw.items()) {
    if (!value.is_string()) continue;  // metadata{}, group_size, null of old files
    if (key == kQuantTypeKey) d.model_quant_type = value.get<std::string>();
    if (key.find('.') != std::string::npos) d.types[key] = value.get<std::string>();
  }
  return d;
}

}  // namespace

std::vector<fs::path> description_files(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(folder, ec)) {
    const std::string file = entry.path().filename().string();
    if (std::ranges::any_of(description_names(), [&](const auto& n) { return file.ends_with(n); }))
      found.push_back(entry.path());
  }
  return found;
}

std::optional<QuantDescription> QuantDescription::load(const fs::path& folder,
                                                       const ordered_json& config) {
  if (const auto it = config.find("quantization_config"); it != config.end() && it->is_object()) {
    QuantDescription d = from_json(*it, (folder / "config.json").string());
    if (!d.types.empty()) return d;
    if (it->contains("quant_method") && it->at("quant_method").is_string() &&
        it->at("quant_method") != "")
      throw Error("this quantization method is not supported")
          .file(d.source)
          .field("quantization_config.quant_method")
          .expected("an Ascend description (no quant_method), or compressed-tensors")
          .found(it->at("quant_method").get<std::string>())
          .remedy("start from the float checkpoint: octet quantize");
  }
  const std::vector<fs::path> found = description_files(folder);
  if (found.empty()) return std::nullopt;
  if (found.size() > 1)
    throw Error("more than one quantization description")
        .file(folder.string())
        .found(found[0].filename().string() + " and " + found[1].filename().string())
        .remedy("keep the one that belongs to the weights");
  const ordered_json raw = parse_ordered_json(read_text(found[0]), found[0].string());
  if (!raw.is_object()) throw Error("is no JSON object").file(found[0].string());
  QuantDescription d = from_json(raw, found[0].string());
  if (d.types.empty()) throw Error("the description names no tensor").file(found[0].string());
  // Old MindIE folders have this key in a partial dictionary.
  if (const auto it = config.find("quantization_config"); it != config.end() && it->is_object())
    d.int8_kv = asks_int8_kv(*it, (folder / "config.json").string()) || d.int8_kv;
  return d;
}

const std::string* QuantDescription::find(const std::string& tensor) const {
  const auto it = types.find(tensor);
  return it == types.end() ? nullptr : &it->second;
}

}  // namespace octet
