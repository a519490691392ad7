// A model folder opened for reading: config, description and tensors together.
#pragma once

#include <optional>
#include <string>

#include "src/checkpoint/architecture.h"
#include "src/checkpoint/findings.h"
#include "src/checkpoint/model_config.h"
#include "src/checkpoint/quant_description.h"
#include "src/checkpoint/safetensors.h"

namespace octet {

class ModelFolder {
 public:
  explicit ModelFolder(const fs::path& path);

  const fs::path& path() const { return path_; }
  // config.json, and what the tensors decide: the type where it names none; a head that is stored
  // and differs from the embedding is not tied, whatever config.json says (`raw` neither).
  const ModelConfig& config() const { return config_; }
  // A tied model may store either of the two: an only one is the embedding.
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

  // Whether `linear` has a bias of zeros that is not stored: the o_proj of models whose q, k and v
  // have biases where the class has one for all four (transformers fills in the zeros).
  bool has_zero_bias(const LinearRow& linear) const {
    return zero_o_bias_ && linear.bias == BiasGroup::kO;
  }

  // What the files say otherwise than config.json or the index, and what becomes of it: warnings
  // for whoever opens the folder.
  const std::vector<Finding>& remarks() const { return remarks_; }

  // The weights of the output head: lm_head.weight, or the embedding's when tied and not stored.
  const TensorView& head_weight() const;

 private:
  void remark_doubled_keys(const fs::path& file);
  void settle_type();
  void settle_head();
  void settle_biases();
  Finding& remark(std::string tensor, std::string problem);

  fs::path path_;
  ModelConfig config_;
  TensorStore tensors_;
  std::optional<QuantDescription> description_;
  bool zero_o_bias_ = false;
  std::vector<Finding> remarks_;
};

}  // namespace octet
