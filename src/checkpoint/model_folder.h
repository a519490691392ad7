// A model folder opened for reading: config, description and tensors together.
#pragma once

#include <optional>
#include <string>

#include "src/checkpoint/architecture.h"
#include "src/checkpoint/model_config.h"
#include "src/checkpoint/quant_description.h"
#include "src/checkpoint/safetensors.h"

namespace octet {

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
