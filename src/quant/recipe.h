// A recipe: the steps of Octet's own quantization with their parameters. It is data: a YAML file
// (docs/recipes.md), written into every output so that a result can be made again.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "src/quant/range_search.h"

namespace octet {

enum class BiasTarget { kNone, kOwn, kFloat };  // correct_bias

struct Recipe {
  std::string name;
  // Exact changes. R1 (fuses the norms and unties the head) and R2, with their seeds.
  std::optional<uint64_t> rotate_residual, rotate_values;
  bool turn_norms = false;
  std::optional<double> value_margin;  // equalize_values: as that of equalize_mlp
  // equalize_mlp: channels added, as a share of intermediate_size, and the rest of ChannelOptions.
  struct EqualizeMlp {
    double copies = 0;
    double weight_noise = 0.5;
    double spread = 0.15;
    double margin = 1;  // on the cross-validated one
  };
  std::optional<EqualizeMlp> equalize_mlp;
  // choose_types: at most so many linears in float, and per token (nothing: wherever it pays).
  size_t float_budget = 0;
  std::optional<size_t> dynamic_budget;
  RangeFit ranges;  // find_ranges
  // round_weights: GPTQ with this damping; nothing = to nearest.
  std::optional<double> gptq_damping;
  BiasTarget bias = BiasTarget::kNone;
  bool quantize_kv_cache = false;  // C8
};

// The shipped recipe of that name (recipes/*.yaml), or the file. Throws Error naming line and
// field.
Recipe load_recipe(const std::string& name_or_file);
Recipe parse_recipe(const std::string& yaml, const std::string& where);
std::string to_yaml(const Recipe& recipe);

}  // namespace octet
