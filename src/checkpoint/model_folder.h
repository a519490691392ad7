// A model folder opened for reading: config, description and tensors together.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/checkpoint/quant_description.h"
#include "src/checkpoint/safetensors.h"

namespace octet {

// One of the seven linears of a decoder layer.
enum class LinearKind { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr LinearKind kLinearKinds[] = {LinearKind::kQ,   LinearKind::kK,    LinearKind::kV,
                                              LinearKind::kO,   LinearKind::kGate, LinearKind::kUp,
                                              LinearKind::kDown};

// "model.layers.3.self_attn.q_proj" and "model.layers.3.input_layernorm".
std::string linear_name(int64_t layer, LinearKind kind);
const char* linear_short_name(LinearKind kind);              // "q_proj"
std::string layer_prefix(int64_t layer);                     // "model.layers.3."
std::optional<int64_t> layer_of(const std::string& tensor);  // the 3 of such a name

// Outputs n and inputs k of a linear, and whether it has a float bias.
struct LinearShape {
  uint64_t n, k;
  bool bias;
};
LinearShape linear_shape(const ModelConfig& config, LinearKind kind);
LinearShape head_shape(const ModelConfig& config);
// The linears with their shapes, layer by layer, then lm_head.
std::vector<std::pair<std::string, LinearShape>> linears_of(const ModelConfig& config);

class ModelFolder {
 public:
  explicit ModelFolder(const fs::path& path);

  const fs::path& path() const { return path_; }
  const ModelConfig& config() const { return config_; }
  const TensorStore& tensors() const { return tensors_; }
  const std::optional<QuantDescription>& description() const { return description_; }
  bool quantized() const { return description_.has_value(); }
  // Whether it is quantized in the form of compressed-tensors, or in Ascend's.
  bool compressed_tensors() const { return quantized() && description_->compressed_tensors; }
  bool ascend() const { return quantized() && !description_->compressed_tensors; }
  // Whether keys and values are to be cached in int8, with the scales of the checkpoint.
  bool int8_kv() const { return quantized() && description_->int8_kv; }

  // What its weights and its KV cache are, for people: "float", "W8A8_DYNAMIC", "W8A8, int8 KV
  // cache", "W8A8, compressed-tensors".
  std::string type_words() const;

  // How the linear `prefix` is stored. Throws Error for a type that Octet cannot compute and for a
  // linear that the description of a quantized folder does not name.
  Scheme scheme(const std::string& prefix) const;

  // The weights of the output head: lm_head.weight, or the embedding's when tied and not stored.
  const TensorView& head_weight() const;

 private:
  fs::path path_;
  ModelConfig config_;
  TensorStore tensors_;
  std::optional<QuantDescription> description_;
};

}  // namespace octet
