// Writes the quantized checkpoint, tensor by tensor in the order of the model's modules.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "src/checkpoint/safetensors_writer.h"
#include "src/quant/analysis.h"
#include "src/quant/float_layer.h"
#include "src/quant/layer_choice.h"
#include "src/quant/observer.h"
#include "src/quant/options.h"
#include "src/quant/weight_rounding.h"

namespace octet {

// A linear ready to be written: in int8, or in float when `rounded` is empty. `input` counts for
// static types.
struct QuantizedLinear {
  std::optional<RoundedWeight> rounded;
  QuantParams input;
};
struct QuantizedLayer {
  std::array<QuantizedLinear, 7> linears;  // by LinearKind
  const KvCacheScales* kv = nullptr;            // of a quantized KV cache
  QuantizedLinear& at(LinearKind kind) { return linears[static_cast<size_t>(kind)]; }
  const QuantizedLinear& at(LinearKind kind) const { return linears[static_cast<size_t>(kind)]; }
};

class Exporter {
 public:
  // Plans all tensors of the output in `target` (an existing folder); `kept` stay in float.
  Exporter(const fs::path& target, const ModelFolder& source, const KeptInFloat& kept,
           const QuantizeOptions& options);

  // To be called in this order.
  void write_embedding();
  void write_layer(int64_t layer, const FloatLayer& weights, const QuantizedLayer& linears);
  void write_final_norm(const Norm& norm);
  void write_head(const QuantizedLinear& linear);  // nothing to do for a tied head
  // Closes the weights, writes description and config, copies the other files.
  void finish();

  uint64_t total_bytes() const { return writer_->total_bytes(); }

 private:
  void plan();
  void plan_tensor(const std::string& name, DType dtype, Shape shape, const std::string& type);
  void plan_float(const std::string& name, Shape shape);
  void plan_norm(const std::string& prefix);
  void plan_linear(const std::string& name, const LinearShape& shape);
  void plan_kv(const std::string& name, uint64_t channels);
  void write_float(const std::string& name, std::span<const float> values);
  void write_view(const std::string& name, const TensorView& view);
  void write_norm(const std::string& prefix, const Norm& norm);
  void write_linear(const std::string& name, const std::vector<float>& bias,
                    const QuantizedLinear& linear);
  void write_static(const std::string& name, const std::vector<float>& bias,
                    const QuantizedLinear& linear);
  void write_kv(const std::string& name, const std::vector<float>& scale);
  void write_config() const;
  void copy_side_files() const;

  Scheme scheme(const std::string& linear) const;
  std::string type_word() const;
  std::string type_suffix() const;
  bool stores_weight_scale(Scheme scheme) const;
  bool norm_bias() const;
  bool stores_head() const;

  fs::path target_;
  const ModelFolder& source_;
  const KeptInFloat& kept_;
  const QuantizeOptions& options_;
  DType float_type_, deq_type_;
  std::vector<TensorSpec> specs_;
  DescriptionBuilder description_;
  std::unique_ptr<SafetensorsWriter> writer_;
};

}  // namespace octet
