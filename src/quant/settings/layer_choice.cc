#include "src/quant/settings/layer_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/quant/settings/model_type.h"

namespace octet {
namespace {

// The layers that the default name lists cover.
int64_t named_layers(const ModelConfig& config, const QuantizeOptions& options) {
  return options.layer_count > 0 ? std::min(options.layer_count, config.layers) : config.layers;
}

void add_defaults(const ModelConfig& config, const QuantizeOptions& options, KeptInFloat& kept) {
  const ModelType& type = find_model_type(config, options);
  // quant_llama.py has defaults for 8-bit activations only.
  if (options.scheme == Scheme::kW8A16 && !type.qwen) return;
  const std::string reason = fmt::format("default of model type {}", type.name);
  if ((type.first_layers || type.first_layers_down) && config.layers < kFirstLayers)
    throw Error("this model type keeps layers 0 to 4 in float, but the model has fewer",
                ErrorKind::kUsage)
        .field("--model_type")
        .found(fmt::format("{} layers", config.layers))
        .remedy("name the linears with --disable_names");
  for (int64_t layer = 0; layer < named_layers(config, options); ++layer)
    for (LinearKind kind : kLinearKinds) {
      const bool first = layer < kFirstLayers;
      const bool keep = kind == LinearKind::kDown
                            ? type.all_down || (first && type.first_layers_down)
                            : first && type.first_layers;
      if (keep) kept.emplace(linear_name(layer, kind), reason);
    }
  if (type.head) kept.emplace("lm_head", reason);
}

void add_names(const ModelConfig& config, const std::vector<std::string>& names,
               KeptInFloat& kept) {
  std::set<std::string> known = {"lm_head"};
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (LinearKind kind : kLinearKinds) known.insert(linear_name(layer, kind));
  for (const std::string& name : names) {
    if (!known.contains(name))
      throw Error("this is no linear layer of the model", ErrorKind::kUsage)
          .field("--disable_names")
          .expected(fmt::format("a name like {} (layers 0 to {}), or lm_head",
                                linear_name(0, LinearKind::kDown), config.layers - 1))
          .found(name);
    kept.emplace(name, "--disable_names");
  }
}

// The group of linears that one fused matrix of a loader holds: q/k/v, gate/up, else itself.
std::string fused_name(const std::string& name) {
  for (const char* part : {".q_proj", ".k_proj", ".v_proj"})
    if (name.ends_with(part)) return name.substr(0, name.size() - 7) + ".qkv_proj";
  if (name.ends_with(".gate_proj")) return name.substr(0, name.size() - 10) + ".gate_up_proj";
  if (name.ends_with(".up_proj")) return name.substr(0, name.size() - 8) + ".gate_up_proj";
  return name;
}

// Adds to every kept linear the others of its group.
void complete_groups(const ModelConfig& config, KeptInFloat& kept) {
  std::map<std::string, std::string> groups;  // fused name -> a member that is kept
  for (const auto& [name, reason] : kept) groups.emplace(fused_name(name), name);
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (LinearKind kind : kLinearKinds) {
      const std::string name = linear_name(layer, kind);
      if (const auto it = groups.find(fused_name(name)); it != groups.end())
        kept.emplace(name, fmt::format("same group as {}", it->second));
    }
}

// The last linear, and without compat_msmodelslim whole groups.
void finish(const ModelConfig& config, const QuantizeOptions& options, KeptInFloat& kept) {
  if (options.disable_last_linear) kept.emplace("lm_head", "--disable_last_linear");
  if (!options.compat_msmodelslim) complete_groups(config, kept);
}

}  // namespace

KeptInFloat choose_by_name(const ModelConfig& config, const QuantizeOptions& options) {
  KeptInFloat kept;
  find_model_type(config, options);  // refuses an unknown one, names or not
  if (options.disable_names) {
    add_names(config, *options.disable_names, kept);
  } else {
    add_defaults(config, options, kept);
  }
  finish(config, options, kept);
  return kept;
}

KeptInFloat choose_by_types(const ModelConfig& config, const QuantizeOptions& options) {
  KeptInFloat kept;
  std::map<std::string, std::pair<std::string, Scheme>> groups;  // fused name -> a member
  for (const auto& [name, scheme] : options.types) {
    if (scheme == Scheme::kFloat) {
      kept.emplace(name, "no linear_quant takes it");
      continue;
    }
    const auto& [other, first] =
        groups.emplace(fused_name(name), std::pair(name, scheme)).first->second;
    if (scheme != first)
      throw Error("two types in a group of linears that loaders fuse", ErrorKind::kUsage)
          .tensor(name + ".weight")
          .expected(fmt::format("{}, as {}", scheme_name(first), other))
          .found(scheme_name(scheme));
  }
  complete_groups(config, kept);
  return kept;
}

std::vector<std::string> threshold_candidates(const ModelConfig& config,
                                              const QuantizeOptions& options) {
  const ModelType& type = find_model_type(config, options);
  KeptInFloat candidates;
  if (options.disable_names) {
    add_names(config, *options.disable_names, candidates);
  } else {
    for (int64_t layer = 0; layer < named_layers(config, options); ++layer)
      candidates.emplace(linear_name(layer, LinearKind::kDown), "");
    if (type.qwen) candidates.emplace("lm_head", "");
  }
  std::vector<std::string> names;
  for (const auto& [name, unused] : candidates) names.push_back(name);
  return names;
}

KeptInFloat choose_by_threshold(const ModelConfig& config, const QuantizeOptions& options,
                                const std::vector<LinearScore>& scores) {
  KeptInFloat kept;
  for (const LinearScore& s : scores)
    if (s.score > options.disable_threshold)
      kept.emplace(s.name, fmt::format("--disable_threshold: score {:.2f}", s.score));
  finish(config, options, kept);
  return kept;
}

void choose_by_score(const std::vector<LinearScore>& scores, size_t count, bool whole_groups,
                     KeptInFloat& kept) {
  std::vector<LinearScore> candidates;
  for (const LinearScore& s : scores)
    if (!kept.contains(s.name)) candidates.push_back(s);
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  count = std::min(count, candidates.size());
  std::set<std::string> groups;
  for (size_t i = 0; i < count; ++i) {
    kept.emplace(candidates[i].name,
                 fmt::format("--disable_level: score {:.1f}", candidates[i].score));
    groups.insert(fused_name(candidates[i].name));
  }
  if (!whole_groups) return;
  for (size_t i = count; i < candidates.size(); ++i)
    if (groups.contains(fused_name(candidates[i].name)))
      kept.emplace(candidates[i].name,
                   fmt::format("--disable_level: same group, score {:.1f}", candidates[i].score));
}

std::map<std::string, Scheme> types_of(const ModelConfig& config, const KeptInFloat& kept,
                                       Scheme scheme) {
  std::map<std::string, Scheme> types;
  const auto add = [&](const std::string& name) {
    types[name] = kept.contains(name) ? Scheme::kFloat : scheme;
  };
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (LinearKind kind : kLinearKinds) add(linear_name(layer, kind));
  add("lm_head");
  return types;
}

}  // namespace octet
