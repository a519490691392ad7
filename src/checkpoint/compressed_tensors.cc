#include "src/checkpoint/compressed_tensors.h"

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/base/json_member.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/scheme.h"

namespace octet {
namespace {

constexpr const char* kDictionary = "quantization_config";

// The fields of an object, those that must have one of a few values among them.
class Fields {
 public:
  Fields(const ordered_json& object, std::string where, std::string path)
      : object_(object), where_(std::move(where)), path_(std::move(path)) {
    if (!object_.is_object()) throw wrong("", "an object", object_.dump());
  }
  // Absent and null are `fallback`.
  ordered_json get(const char* name, const ordered_json& fallback) const {
    const ordered_json* member = find_member(object_, name);
    return member == nullptr ? fallback : *member;
  }
  void need(const char* name, const ordered_json& fallback, const std::vector<ordered_json>& any,
            const char* expected) const {
    const ordered_json value = get(name, fallback);
    if (std::find(any.begin(), any.end(), value) == any.end())
      throw wrong(name, expected, value.dump());
  }
  // The texts of a list.
  std::set<std::string> texts(const char* name) const {
    std::set<std::string> all;
    const ordered_json list = get(name, ordered_json::array());
    if (!list.is_array()) throw wrong(name, "a list", list.dump());
    for (const ordered_json& text : list)
      if (text.is_string()) all.insert(text.get<std::string>());
    return all;
  }
  Error wrong(const std::string& name, const std::string& expected,
              const std::string& found) const {
    return Error("this compressed-tensors checkpoint is not supported")
        .file(where_)
        .field(path_ + (name.empty() ? "" : "." + name))
        .expected(expected)
        .found(found);
  }

 private:
  const ordered_json& object_;
  std::string where_, path_;
};

// Linears that are quantized alike.
struct Group {
  Scheme scheme = Scheme::kW8A8;
  bool zero_point = false;        // static inputs have one
  std::set<std::string> targets;  // full names, classes, patterns
};

Group parse_group(const ordered_json& group, const std::string& where, const std::string& path) {
  const Fields g(group, where, path);
  const ordered_json weights = g.get("weights", nullptr);
  const ordered_json inputs = g.get("input_activations", nullptr);
  const Fields w(weights, where, path + ".weights");
  w.need("num_bits", 8, {8}, "8");
  w.need("type", "int", {"int"}, "int");
  w.need("symmetric", true, {true}, "true");
  w.need("dynamic", false, {false}, "false");
  w.need("strategy", "tensor", {"channel", "tensor"}, "channel or tensor");
  if (inputs.is_null())
    throw g.wrong("input_activations", "int8 inputs: W8A8", "none (weights only)");
  const Fields a(inputs, where, path + ".input_activations");
  a.need("num_bits", 8, {8}, "8");
  a.need("type", "int", {"int"}, "int");
  Group out;
  if (a.get("dynamic", false) == true) {
    a.need("strategy", "token", {"token"}, "token, for dynamic scales");
    a.need("symmetric", true, {true}, "true, for dynamic scales");
    out.scheme = Scheme::kW8A8Dynamic;
  } else {
    a.need("dynamic", false, {false}, "true or false");
    a.need("strategy", "tensor", {"tensor"}, "tensor, for static scales");
    a.need("symmetric", true, {true, false}, "true or false");
    out.zero_point = a.get("symmetric", true) == false;
  }
  g.need("output_activations", nullptr, {nullptr}, "nothing");
  out.targets = g.texts("targets");
  return out;
}

// Groups and the linears that are left out.
struct Rules {
  std::vector<Group> groups;
  std::set<std::string> ignore;

  // The group of a linear with int8 weights. Where groups differ, by its full name or else by
  // whether it has an input scale: patterns are not looked at.
  const Group& of(const std::string& name, bool has_input_scale) const {
    for (const Group& g : groups)
      if (g.targets.contains(name)) return g;
    for (const Group& g : groups)
      if (has_static_input(g.scheme) == has_input_scale) return g;
    return groups[0];
  }
};

Rules parse_rules(const ordered_json& dictionary, const std::string& where) {
  const Fields d(dictionary, where, kDictionary);
  d.need("format", "int-quantized", {"int-quantized", "naive-quantized"}, "int-quantized");
  d.need("kv_cache_scheme", nullptr, {nullptr}, "nothing");
  Rules rules;
  rules.ignore = d.texts("ignore");
  const ordered_json groups = d.get("config_groups", ordered_json::object());
  if (!groups.is_object() || groups.empty())
    throw d.wrong("config_groups", "one group or more", groups.dump());
  for (const auto& [name, group] : groups.items())
    rules.groups.push_back(
        parse_group(group, where, std::string(kDictionary) + ".config_groups." + name));
  return rules;
}

}  // namespace

bool is_compressed_tensors(const ordered_json& config) {
  const auto it = config.find(kDictionary);
  return it != config.end() && it->is_object() &&
         it->value("quant_method", ordered_json()) == "compressed-tensors";
}

QuantDescription describe_compressed_tensors(const ModelConfig& config, const TensorStore& tensors,
                                             const std::string& where) {
  QuantDescription d;
  d.source = where;
  d.compressed_tensors = true;
  d.raw = config.raw[kDictionary];
  const Rules rules = parse_rules(d.raw, where);
  for (const TensorView* t : tensors.all()) d.types[t->name] = kFloatWord;
  bool any_static = false;
  for (const auto& [name, shape, rows, columns] : linears_of(config)) {
    const TensorView* weight = tensors.find(name + ".weight");
    if (weight == nullptr || weight->dtype != DType::kI8 || rules.ignore.contains(name)) {
      d.types[name + ".weight"] = kFloatWord;
      continue;
    }
    const Group& group = rules.of(name, tensors.find(name + suffix::kInputScale) != nullptr);
    any_static = any_static || has_static_input(group.scheme);
    if (group.zero_point) tensors.get(name + suffix::kInputZeroPoint);  // throws when absent
    for (const char* part :
         {".weight", suffix::kWeightScale, suffix::kInputScale, suffix::kInputZeroPoint})
      if (tensors.find(name + part) != nullptr) d.types[name + part] = scheme_name(group.scheme);
  }
  d.model_quant_type = scheme_name(any_static ? Scheme::kW8A8 : Scheme::kW8A8Dynamic);
  return d;
}

}  // namespace octet
