#include "src/quant/settings/layer_choice.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/quant/settings/model_type.h"

namespace octet {
namespace {

// The layers that the default name lists cover.
int64_t named_layers(const ModelConfig& config, const KeepFloat& keep) {
  return keep.layer_count > 0 ? std::min(keep.layer_count, config.layers) : config.layers;
}

void add_defaults(const ModelConfig& config, const KeepFloat& keep, Scheme scheme,
                  KeptInFloat& kept) {
  const ModelType& type = find_model_type(config, keep.model_type);
  // quant_llama.py has defaults for 8-bit activations only.
  if (is_weight_only(scheme) && !type.qwen) return;
  const std::string reason = fmt::format("default of model type {}", type.name);
  if ((type.first_layers || type.first_layers_down) && config.layers < kFirstLayers)
    throw Error("this model type keeps layers 0 to 4 in float, but the model has fewer",
                ErrorKind::kUsage)
        .field("--model_type")
        .found(fmt::format("{} layers", config.layers))
        .remedy("name the linears with --disable_names");
  for (int64_t layer = 0; layer < named_layers(config, keep); ++layer)
    for (const LayerLinear& l : layer_linears(config, layer)) {
      const bool first = layer < kFirstLayers;
      const bool in_float = l.part == LayerPart::kDown
                                ? type.all_down || (first && type.first_layers_down)
                                : first && type.first_layers;
      if (in_float) kept.emplace(l.full_name, reason);
    }
  if (type.head) kept.emplace(kHead, reason);
}

void add_names(const ModelConfig& config, const std::vector<std::string>& names,
               KeptInFloat& kept) {
  std::set<std::string> known;
  for (const NamedLinear& l : linears_of(config)) known.insert(l.name);
  for (const std::string& name : names) {
    if (!known.contains(name))
      throw Error("this is no linear layer of the model", ErrorKind::kUsage)
          .field("--disable_names")
          .expected(fmt::format("a name like {} (layers 0 to {}), or lm_head",
                                linear_names(0, LayerPart::kDown)[0], config.layers - 1))
          .found(name);
    kept.emplace(name, "--disable_names");
  }
}

// What stands for the linears that one fused matrix of a loader holds (q/k/v, gate/up): the first
// of them, for others the linear itself.
std::string fused_name(const std::string& name) {
  const LinearRow* row = find_linear_row(name);
  return row == nullptr ? name : linear_names(*layer_of(name), row->part)[0];
}

// Adds to every kept linear the others of its part.
void complete_groups(const ModelConfig& config, KeptInFloat& kept) {
  std::map<std::string, std::string> groups;  // fused name -> a member that is kept
  for (const auto& [name, reason] : kept) groups.emplace(fused_name(name), name);
  for (const NamedLinear& l : linears_of(config))
    if (const auto it = groups.find(fused_name(l.name)); it != groups.end())
      kept.emplace(l.name, fmt::format("same group as {}", it->second));
}

// The last linear, and whole groups.
void finish(const ModelConfig& config, const OutputSettings& output, KeptInFloat& kept) {
  if (output.keep_float.last_linear) kept.emplace(kHead, "--disable_last_linear");
  if (keeps_groups_whole(output.layout)) complete_groups(config, kept);
}

}  // namespace

KeptInFloat choose_by_name(const ModelConfig& config, const OutputSettings& output, Scheme scheme) {
  const KeepFloat& keep = output.keep_float;
  KeptInFloat kept;
  find_model_type(config, keep.model_type);  // refuses an unknown one, names or not
  if (keep.names) {
    add_names(config, *keep.names, kept);
  } else {
    add_defaults(config, keep, scheme, kept);
  }
  finish(config, output, kept);
  return kept;
}

KeptInFloat choose_by_types(const ModelConfig& config, const std::map<std::string, Scheme>& types) {
  KeptInFloat kept;
  std::map<std::string, std::pair<std::string, Scheme>> groups;  // fused name -> a member
  for (const auto& [name, scheme] : types) {
    if (!is_quantized(scheme)) {
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

std::vector<std::string> threshold_candidates(const ModelConfig& config, const KeepFloat& named) {
  const ModelType& type = find_model_type(config, named.model_type);
  KeptInFloat candidates;
  if (named.names) {
    add_names(config, *named.names, candidates);
  } else {
    for (int64_t layer = 0; layer < named_layers(config, named); ++layer)
      candidates.emplace(linear_names(layer, LayerPart::kDown)[0], "");
    if (type.qwen) candidates.emplace(kHead, "");
  }
  std::vector<std::string> names;
  for (const auto& [name, unused] : candidates) names.push_back(name);
  return names;
}

KeptInFloat choose_by_threshold(const ModelConfig& config, const OutputSettings& output,
                                double threshold, const std::vector<LinearScore>& scores) {
  KeptInFloat kept;
  for (const LinearScore& s : scores)
    if (s.score > threshold)
      kept.emplace(s.name, fmt::format("--disable_threshold: score {:.2f}", s.score));
  finish(config, output, kept);
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

std::vector<std::string> cut_from_groups(const KeptInFloat& kept) {
  std::vector<std::string> cut;
  for (const auto& [name, reason] : kept) {
    const LinearRow* row = find_linear_row(name);
    if (row == nullptr) continue;
    for (const std::string& other : linear_names(*layer_of(name), row->part))
      if (!kept.contains(other)) {
        cut.push_back(name);
        break;
      }
  }
  return cut;
}

std::map<std::string, Scheme> types_of(const ModelConfig& config, const KeptInFloat& kept,
                                       Scheme scheme) {
  std::map<std::string, Scheme> types;
  for (const NamedLinear& l : linears_of(config))
    types[l.name] = kept.contains(l.name) ? Scheme::kFloat : scheme;
  return types;
}

}  // namespace octet
