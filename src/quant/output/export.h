// Writes the quantized checkpoint, tensor by tensor in the order of the model's modules.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "src/checkpoint/layout.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/quant/int8/quantized_layer.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/tool_method.h"

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
  // To be called in this order.
  void write_embedding(const RowSource& rows);
  void write_layer(int64_t layer, const FloatLayer& weights, const QuantizedLayer& linears);
  // write_layer() and a sync to disk, to be called later and perhaps by another thread: owns what
  // it uses, of the layer only what is written. Empty on ranks that write nothing.
  std::function<void()> layer_job(int64_t layer, FloatLayer weights, QuantizedLayer linears);
  void write_final_norm(const Norm& norm);
  // `rows`: of a head in float; nothing is written for a tied one.
  void write_head(const QuantizedLinear& linear, const RowSource& rows);
  // Closes the weights, writes description and config, copies the other files.
  void finish();

  uint64_t total_bytes() const;

 private:
  class Output;  // the plan and the open files

  const ModelFolder& source_;
  std::shared_ptr<Output> output_;  // the jobs of layer_job() own it, too
};

}  // namespace octet
