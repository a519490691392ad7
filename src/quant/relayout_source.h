// A quantized checkpoint of any layout, read through one set of questions; for relayout.cc.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/checkpoint/model_folder.h"
#include "src/quant/encode.h"

namespace octet {

// A static linear in the terms of docs/formats.md.
struct StaticLinear {
  QuantParams input;
  std::vector<float> weight_scale, deq_scale;  // [n]
  std::vector<int64_t> row_sum;                // [n] of the int8 weights
  std::vector<int32_t> quant_bias;             // [n]
  // quant_bias without the part that takes the offset off again: the bias in units of deq_scale.
  std::vector<int64_t> bias_levels() const;
};

class QuantizedSource {
 public:
  // Throws Error for a float checkpoint and for what is broken or not supported.
  explicit QuantizedSource(const fs::path& folder);

  const fs::path& path() const { return path_; }
  Layout layout() const { return layout_; }
  const ModelConfig& config() const { return config_; }  // mlp_bias left out
  const TensorStore& tensors() const;
  const TensorView* find(const std::string& name) const { return tensors().find(name); }
  bool int8_kv() const { return folder_ && folder_->int8_kv(); }
  // Of every linear and of lm_head.
  const std::map<std::string, Scheme>& schemes() const { return schemes_; }
  Scheme scheme(const std::string& linear) const { return schemes_.at(linear); }
  StaticLinear static_linear(const std::string& name, const LinearShape& shape) const;
  // The per-channel scales [n] of a quantized linear.
  std::vector<float> weight_scale(const std::string& name, uint64_t n) const;

  // config.json without anything about quantization.
  ordered_json plain_config() const;
  // The description's file; "" = none beside config.json.
  fs::path description_file() const;

 private:
  void open_compressed_tensors(const ordered_json& raw);
  void check_linear(const std::string& name, const LinearShape& shape) const;

  fs::path path_;
  Layout layout_ = Layout::kOctet;
  ModelConfig config_;
  std::optional<ModelFolder> folder_;     // of Ascend's layouts
  std::unique_ptr<TensorStore> tensors_;  // else
  std::map<std::string, Scheme> schemes_;
};

// The model's linears with their shapes, layer by layer, then lm_head.
std::vector<std::pair<std::string, LinearShape>> linears_of(const ModelConfig& config);

}  // namespace octet
