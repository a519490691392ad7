// What to quantize and how: the flags of msModelSlim's quant_llama.py that this program takes.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "src/checkpoint/model_config.h"

namespace octet {

enum class ActMethod { kMinMax = 1, kHistogram = 2, kAuto = 3 };
enum class AntiMethod { kNone, kM1, kM3 };

struct QuantizeOptions {
  ActMethod act_method = ActMethod::kMinMax;
  AntiMethod anti_method = AntiMethod::kNone;
  size_t disable_level = 0;  // N of LN: linears that go back to float
  // Linears kept in float, by full name; nothing = the model type's defaults.
  std::optional<std::vector<std::string>> disable_names;
  std::string model_type;           // "" = from config.json
  bool disable_last_linear = true;  // lm_head stays in float
  bool compat_msmodelslim = false;  // the tool's own files and arithmetic
  bool mindie_format = false;       // with compat: its older layout
  uint64_t part_bytes = 0;          // shard size; 0 = one file
  bool overwrite = false;
  bool quiet = false;  // no progress on stderr
};

// The values as the flags spell them: "m1" ("" for none), "L5".
std::string anti_method_name(AntiMethod method);
std::string disable_level_name(size_t level);

// The dtype in which float tensors and input scales are written: the model's own, or float32 as
// msModelSlim does on a CPU.
inline DType stored_dtype(const ModelConfig& config, const QuantizeOptions& options) {
  return options.compat_msmodelslim ? DType::kF32 : config.dtype;
}

}  // namespace octet
