// A quantized checkpoint of any layout, read through one set of questions; for relayout.cc.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/checkpoint/model_folder.h"
#include "src/quant/int8/encode.h"

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

  const ModelFolder& folder() const { return folder_; }
  const fs::path& path() const { return folder_.path(); }
  Layout layout() const { return layout_; }
  const ModelConfig& config() const { return folder_.config(); }
  const TensorStore& tensors() const { return folder_.tensors(); }
  const TensorView* find(const std::string& name) const { return tensors().find(name); }
  bool int8_kv() const { return folder_.int8_kv(); }
  // Of every linear and of lm_head.
  const std::map<std::string, Scheme>& schemes() const { return schemes_; }
  Scheme scheme(const std::string& linear) const { return schemes_.at(linear); }
  StaticLinear static_linear(const std::string& name, const LinearShape& shape) const;

  // config.json without anything about quantization.
  ordered_json plain_config() const;
  // The description's file; "" = none beside config.json.
  fs::path description_file() const;

 private:
  ModelFolder folder_;
  Layout layout_ = Layout::kOctet;
  std::map<std::string, Scheme> schemes_;
};

}  // namespace octet
