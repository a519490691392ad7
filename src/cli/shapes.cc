#include "src/cli/shapes.h"

#include <fmt/format.h>

#include <array>

#include "src/base/error.h"
#include "src/checkpoint/architecture.h"
#include "src/cli/cli.h"

namespace octet::cli {
namespace {

struct NamedShape {
  const char* name;
  Family family;
  int64_t hidden, intermediate, layers, heads, kv_heads, vocab;
  bool tied;
  double theta;
  int64_t head_dim = 0;  // 0 = hidden / heads
};
constexpr std::array<NamedShape, 13> kShapes = {{
    {"qwen3-0.6b", Family::kQwen3, 1024, 3072, 28, 16, 8, 151936, true, 1e6, 128},
    {"qwen3-1.7b", Family::kQwen3, 2048, 6144, 28, 16, 8, 151936, true, 1e6, 128},
    {"qwen3-4b", Family::kQwen3, 2560, 9728, 36, 32, 8, 151936, true, 1e6, 128},
    {"qwen3-8b", Family::kQwen3, 4096, 12288, 36, 32, 8, 151936, false, 1e6, 128},
    {"qwen3-14b", Family::kQwen3, 5120, 17408, 40, 40, 8, 151936, false, 1e6, 128},
    {"qwen3-32b", Family::kQwen3, 5120, 25600, 64, 64, 8, 151936, false, 1e6, 128},
    {"qwen2.5-0.5b", Family::kQwen2, 896, 4864, 24, 14, 2, 151936, true, 1e6},
    {"qwen2.5-1.5b", Family::kQwen2, 1536, 8960, 28, 12, 2, 151936, true, 1e6},
    {"qwen2.5-7b", Family::kQwen2, 3584, 18944, 28, 28, 4, 152064, false, 1e6},
    {"llama-3.2-1b", Family::kLlama, 2048, 8192, 16, 32, 8, 128256, true, 5e5},
    {"llama-2-70b", Family::kLlama, 8192, 28672, 80, 64, 8, 32000, false, 1e4},
    {"llama-3.1-8b", Family::kLlama, 4096, 14336, 32, 32, 8, 128256, false, 5e5},
    {"llama-3.1-70b", Family::kLlama, 8192, 28672, 80, 64, 8, 128256, false, 5e5},
}};

const NamedShape& find_shape(const std::string& name) {
  for (const NamedShape& s : kShapes)
    if (name == s.name) return s;
  throw Error("unknown shape", ErrorKind::kUsage)
      .field("--shape")
      .expected(shape_names())
      .found(name);
}

}  // namespace

std::string shape_names() {
  std::string names;
  for (const NamedShape& s : kShapes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", s.name);
  return names;
}

ordered_json shape_config(const std::string& name, int64_t layers) {
  const NamedShape& s = find_shape(name);
  if (layers < 0 || layers > s.layers)
    throw usage_error(fmt::format("--layers: expected 0 (all) to {}", s.layers));
  ordered_json c;
  const Architecture& a = architecture(s.family);
  c["architectures"] = {a.class_name};
  c["model_type"] = a.model_type;
  c["hidden_size"] = s.hidden;
  c["intermediate_size"] = s.intermediate;
  c["num_hidden_layers"] = layers > 0 ? layers : s.layers;
  c["num_attention_heads"] = s.heads;
  c["num_key_value_heads"] = s.kv_heads;
  if (s.head_dim > 0) c["head_dim"] = s.head_dim;
  c["vocab_size"] = s.vocab;
  c["max_position_embeddings"] = 32768;
  c["rms_norm_eps"] = 1e-6;
  c["rope_theta"] = s.theta;
  c["hidden_act"] = "silu";
  c["tie_word_embeddings"] = s.tied;
  c["torch_dtype"] = "bfloat16";
  c["eos_token_id"] = 2;
  return c;
}

Scheme scheme_of_flag(const std::string& type) {
  const auto scheme = parse_scheme(type);
  if (!scheme)
    throw Error("unknown type", ErrorKind::kUsage)
        .field("--type")
        .expected(scheme_names())
        .found(type);
  return *scheme;
}

}  // namespace octet::cli
