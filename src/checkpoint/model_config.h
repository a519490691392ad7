// config.json and generation_config.json.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/base/json.h"
#include "src/checkpoint/architecture.h"
#include "src/checkpoint/dtype.h"

namespace octet {

// rope_type "llama3" of Llama 3.1 and 3.2: frequencies are divided by `factor` where the wavelength
// exceeds original_max_position / low_freq_factor, kept below original / high, blended between.
struct RopeScaling {
  double factor = 1;
  double low_freq_factor = 1;
  double high_freq_factor = 4;
  int64_t original_max_position = 8192;
};

struct ModelConfig {
  Family family = Family::kLlama;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;  // divides heads
  int64_t head_dim = 0;  // even
  int64_t vocab_size = 0;
  int64_t max_position = 0;
  double rms_norm_eps = 1e-6;
  double rope_theta = 10000;
  std::optional<RopeScaling> rope_scaling;
  bool tie_word_embeddings = false;
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;       // of gate, up and down
  DType dtype = DType::kBF16;  // torch_dtype: F16, BF16 or F32; the embedding's where it is absent
  std::vector<int64_t> eos_token_ids;
  // The file as it stands, without a torch_dtype, dtype or quantization_config that is null, and
  // with what old files call compression_config under its present name.
  ordered_json raw;

  int64_t q_size() const { return heads * head_dim; }
  int64_t kv_size() const { return kv_heads * head_dim; }
  std::string model_type() const { return architecture(family).model_type; }

  // Reads and checks `folder`/config.json. Throws Error naming the field; unsupported
  // architectures, activations and rope types are refused by name.
  static ModelConfig load(const fs::path& folder);
  static ModelConfig parse(const ordered_json& raw, const std::string& where);
};

// The word of config.json for F16, BF16 and F32: "float16", ...
const char* config_dtype_name(DType dtype);

// Sampling defaults of generation_config.json; absent members stay empty.
struct GenerationConfig {
  std::optional<double> temperature, top_p, repetition_penalty, min_p;
  std::optional<int64_t> top_k, max_new_tokens;
  std::vector<int64_t> eos_token_ids;

  // An absent file gives an empty value.
  static GenerationConfig load(const fs::path& folder);
};

}  // namespace octet
