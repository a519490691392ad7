// Writes the quantized checkpoint, tensor by tensor in the order of the model's modules.
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/quant/int8/quantized_layer.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/settings/options.h"

namespace octet {

// What the output holds: its shapes, the type of every linear (lm_head among them), and the tool's
// settings, which its older layout lists in config.json.
struct ExportContent {
  ModelConfig config;
  std::map<std::string, Scheme> types;
  ToolMethod tool = {};
};

// Rows [first, first + count) of a table [vocab, hidden].
using RowSource = std::function<std::vector<float>(size_t first, size_t count)>;

class Exporter {
 public:
  // Plans all tensors of the output in `target` (an existing folder). Without a target, on ranks of
  // which another writes, nothing is written.
  Exporter(const fs::path& target, const ModelFolder& source, ExportContent content,
           const OutputSettings& settings);

  // Goes on before write_layer(layer) (before write_final_norm when it is the number of layers),
  // with what an earlier run wrote in `target`. Throws Error when its files are not as it left
  // them.
  void resume_at(int64_t layer);
  // What is written so far to disk.
  void sync() { writer_->sync(); }

  // To be called in this order.
  void write_embedding(const RowSource& rows);
  void write_layer(int64_t layer, const FloatLayer& weights, const QuantizedLayer& linears);
  // write_layer() and sync(), to be called later and perhaps by another thread: holds of the layer
  // only what is written.
  std::function<void()> layer_job(int64_t layer, FloatLayer weights, QuantizedLayer linears);
  void write_final_norm(const Norm& norm);
  // `rows`: of a head in float; nothing is written for a tied one.
  void write_head(const QuantizedLinear& linear, const RowSource& rows);
  // Closes the weights, writes description and config, copies the other files.
  void finish();

  uint64_t total_bytes() const { return writer_->total_bytes(); }

 private:
  void plan();
  void plan_tensor(const std::string& name, DType dtype, Shape shape, const std::string& type);
  void plan_float(const std::string& name, Shape shape);
  void plan_norm(const std::string& prefix, uint64_t size);
  void plan_linear(const std::string& name, const LinearShape& shape);
  void plan_kv(const std::string& name, uint64_t channels);
  void write_float(const std::string& name, std::span<const float> values);
  void write_rows(const std::string& name, const RowSource& rows);
  void write_norm(const std::string& prefix, const Norm& norm);
  void write_linear(const std::string& name, const std::vector<float>& bias, bool stores_bias,
                    const QuantizedLinear& linear);
  std::vector<std::byte> tensor_bytes(QuantTensor::Role role, const std::string& name,
                                      const std::vector<float>& bias,
                                      const QuantizedLinear& linear) const;
  void write_kv(const std::string& name, const std::vector<float>& scale);
  void write_config(const ordered_json& description) const;

  bool stores(const QuantTensor& part) const;
  bool norm_bias() const;
  bool stores_head() const;

  fs::path target_;
  const ModelFolder& source_;
  ExportContent content_;
  const OutputSettings& settings_;
  StoredTypes stored_;
  std::string type_;  // of the whole: the description's model_quant_type
  std::vector<TensorSpec> specs_;
  TensorTypes types_;                          // of every tensor, and of a tied head
  std::unique_ptr<SafetensorsWriter> writer_;  // null without a target
};

}  // namespace octet
