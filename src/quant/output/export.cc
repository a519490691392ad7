#include "src/quant/output/export.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/checkpoint/scheme.h"
#include "src/checkpoint/side_files.h"
#include "src/quant/int8/encode.h"

namespace octet {

using Role = QuantTensor::Role;

// Refers to nothing outside, since jobs outlive the Exporter when an error unwinds it.
class Exporter::Output {
 public:
  // `stored_head`: the source has a head of its own, beside a tied embedding perhaps.
  Output(fs::path target, const ModelConfig& source, bool stored_head, ExportContent content,
         const OutputSettings& settings);

  void resume_at(int64_t layer);
  void write_rows(const std::string& name, const RowSource& rows);
  void write_layer(int64_t layer, const FloatLayer& weights, const QuantizedLayer& linears);
  void write_norm(const std::string& prefix, const Norm& norm);
  void write_head(const QuantizedLinear& linear, const RowSource& rows);
  void finish(const ModelFolder& source);
  void sync() { writer_->sync(); }
  bool writes() const { return writer_ != nullptr; }
  uint64_t total_bytes() const { return writer_->total_bytes(); }

 private:
  void plan();
  void plan_tensor(const std::string& name, DType dtype, Shape shape, const std::string& type);
  void plan_float(const std::string& name, Shape shape);
  void plan_norm(const std::string& prefix, uint64_t size);
  void plan_linear(const std::string& name, const LinearShape& shape);
  void write_float(const std::string& name, std::span<const float> values);
  void write_linear(const std::string& name, const std::vector<float>& bias, bool stores_bias,
                    const QuantizedLinear& linear);
  std::vector<std::byte> tensor_bytes(QuantTensor::Role role, const std::string& name,
                                      const std::vector<float>& bias,
                                      const QuantizedLinear& linear) const;
  void write_kv(const std::string& name, const std::vector<float>& scale);
  void write_config(const ModelConfig& source, const ordered_json& description) const;

  bool stores(const QuantTensor& part) const;
  bool norm_bias() const;
  bool stores_head() const;

  fs::path target_;
  bool stored_head_;
  ExportContent content_;
  OutputSettings settings_;
  StoredTypes stored_;
  std::string type_;  // of the whole: the description's model_quant_type
  std::vector<TensorSpec> specs_;
  TensorTypes types_;                          // of every tensor, and of a tied head
  std::unique_ptr<SafetensorsWriter> writer_;  // null without a target
};

Exporter::Output::Output(fs::path target, const ModelConfig& source, bool stored_head,
                         ExportContent content, const OutputSettings& settings)
    : target_(std::move(target)),
      stored_head_(stored_head),
      content_(std::move(content)),
      settings_(settings),
      stored_(stored_types(settings.layout, source.dtype)),
      type_(scheme_word(highest(content_.types), settings.layout)) {
  plan();
  if (target_.empty()) return;
  writer_ = std::make_unique<SafetensorsWriter>(
      target_, specs_,
      WriterOptions{weights_stem(settings_.layout, type_), settings_.part_bytes,
                    /*metadata=*/!is_msmodelslim_v0(settings_.layout)});
}

bool Exporter::Output::stores(const QuantTensor& part) const {
  return !part.spare || stores_spare_scales(settings_.layout);
}

// msModelSlim leaves a zero bias on every norm that it has wrapped; m6 wraps none.
bool Exporter::Output::norm_bias() const {
  return is_msmodelslim_v0(settings_.layout) &&
         anti_method_row(content_.tool.anti_method).wraps_norms;
}

// A tied head is stored by itself only where it differs from the embedding, or as the tool does.
bool Exporter::Output::stores_head() const {
  return !content_.config.tie_word_embeddings || is_msmodelslim_v0(settings_.layout) ||
         is_quantized(content_.types.at(kHead)) || stored_head_;
}

void Exporter::Output::plan_tensor(const std::string& name, DType dtype, Shape shape,
                                   const std::string& type) {
  specs_.push_back({name, dtype, std::move(shape)});
  types_.emplace_back(name, type);
}

void Exporter::Output::plan_float(const std::string& name, Shape shape) {
  plan_tensor(name, stored_.floats, std::move(shape), kFloatWord);
}

void Exporter::Output::plan_norm(const std::string& prefix, uint64_t size) {
  const Shape shape = {size};
  plan_float(prefix + ".weight", shape);
  if (!norm_bias()) return;
  plan_float(prefix + ".bias", shape);
  if (settings_.layout != Layout::kMindie) return;
  for (const char* part : {".module.weight", ".module.bias"})
    plan_tensor(prefix + part, stored_.floats, shape, type_);
}

void Exporter::Output::plan_linear(const std::string& name, const LinearShape& s) {
  const Scheme type = content_.types.at(name);
  if (!is_quantized(type)) {
    plan_float(name + ".weight", {s.n, s.k});
    if (s.bias) plan_float(name + ".bias", {s.n});
    return;
  }
  const std::string word = scheme_word(type, settings_.layout);
  plan_tensor(name + ".weight", DType::kI8, {s.n, s.k}, word);
  if (s.bias) plan_tensor(name + ".bias", stored_.linears, {s.n}, kFloatWord);
  for (const QuantTensor& part : scheme_row(type).tensors)
    if (stores(part))
      plan_tensor(name + part.suffix, part.stored_as(stored_), part.shape(s.n), word);
}

void Exporter::Output::plan() {
  const ModelConfig& c = content_.config;
  const Shape table = {axis_size(c, Axis::kVocab), axis_size(c, Axis::kHidden)};
  plan_float(kEmbeddingWeight, table);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    for (const LayerLinear& l : layer_linears(c, layer)) {
      if (settings_.quantize_kv_cache && l.in_kv_cache)
        for (const QuantTensor& part : kv_cache_tensors())
          plan_tensor(l.full_name + part.suffix, part.stored_as(stored_), part.shape(l.shape.n),
                      kKvCacheWord);
      plan_linear(l.full_name, l.shape);
    }
    for (const LayerNorm& norm : layer_norms(c, layer)) plan_norm(norm.full_name, norm.count);
  }
  plan_norm(kFinalNorm, axis_size(c, Axis::kHidden));
  if (stores_head()) {
    plan_linear(kHead, head_shape(c));
  } else {
    types_.emplace_back(kHeadWeight, kFloatWord);  // loaders look it up for tied heads, too
  }
}

void Exporter::Output::write_float(const std::string& name, std::span<const float> values) {
  writer_->write(name, encode(values, stored_.floats, name));
}

// A table [rows, hidden] in parts.
void Exporter::Output::write_rows(const std::string& name, const RowSource& rows) {
  constexpr size_t kPart = 1024;
  const size_t count = static_cast<size_t>(content_.config.vocab_size);
  for (size_t first = 0; first < count; first += kPart)
    writer_->append(name,
                    encode(rows(first, std::min(kPart, count - first)), stored_.floats, name));
}

void Exporter::Output::write_norm(const std::string& prefix, const Norm& norm) {
  write_float(prefix + ".weight", norm.weight);
  if (!norm_bias()) return;
  std::vector<float> bias = norm.bias;
  bias.resize(norm.weight.size(), 0.0f);
  write_float(prefix + ".bias", bias);
  if (settings_.layout != Layout::kMindie) return;
  write_float(prefix + ".module.weight", norm.weight);
  write_float(prefix + ".module.bias", bias);
}

void Exporter::Output::write_linear(const std::string& name, const std::vector<float>& bias,
                                    bool stores_bias, const QuantizedLinear& linear) {
  const Scheme type = content_.types.at(name);
  // The bias that is computed with: with static inputs it is in quant_bias, and `.bias` the
  // model's.
  const std::vector<float>& used = linear.corrected_bias.empty() ? bias : linear.corrected_bias;
  writer_->write(name + ".weight", linear.rounded->q);
  if (stores_bias)
    writer_->write(name + ".bias",
                   encode(has_static_input(type) ? bias : used, stored_.linears, name + ".bias"));
  for (const QuantTensor& part : scheme_row(type).tensors)
    if (stores(part))
      writer_->write(name + part.suffix, tensor_bytes(part.role, name, used, linear));
}

std::vector<std::byte> Exporter::Output::tensor_bytes(Role role, const std::string& name,
                                                      const std::vector<float>& bias,
                                                      const QuantizedLinear& linear) const {
  const RoundedWeight& w = *linear.rounded;
  const QuantParams& input = linear.input;
  switch (role) {
    case Role::kWeightScale:
      return encode(w.scale, DType::kF32);
    case Role::kWeightOffset:
      return encode(w.offset, DType::kF32);
    case Role::kInputScale:
      return encode(std::span(&input.scale, 1), stored_.linears);
    case Role::kInputOffset:
      return encode(std::span(&input.offset, 1), stored_.linears);
    case Role::kQuantBias:
      return bytes_of(quant_bias(name, w, input, bias, is_msmodelslim_v0(settings_.layout)));
    case Role::kDeqScale:
      return encode_deq_scale(deq_scale(w, input), stored_.deq_scale);
    case Role::kKvScale:
    case Role::kKvOffset:
      break;
  }
  OCTET_CHECK(false);
}

void Exporter::Output::write_kv(const std::string& name, const std::vector<float>& scale) {
  writer_->write(name + suffix::kKvScale, scale);
  writer_->write(name + suffix::kKvOffset, std::vector<float>(scale.size(), 0.0f));
}

void Exporter::Output::resume_at(int64_t layer) {
  const std::string first =
      layer < content_.config.layers ? layer_prefix(layer) : std::string(kFinalNorm) + ".";
  const auto it = std::find_if(specs_.begin(), specs_.end(),
                               [&](const TensorSpec& s) { return s.name.starts_with(first); });
  writer_->resume_at(static_cast<size_t>(it - specs_.begin()));
  // What else the run wrote, it wrote at its end, perhaps in part.
  std::vector<fs::path> rest;
  for (const auto& entry : fs::directory_iterator(target_))
    if (entry.path().extension() != ".safetensors") rest.push_back(entry.path());
  for (const fs::path& path : rest) fs::remove_all(path);
}

void Exporter::Output::write_layer(int64_t layer, const FloatLayer& weights,
                                   const QuantizedLayer& linears) {
  const KvCacheScales* kv = linears.kv ? &*linears.kv : nullptr;
  for (const LayerLinear& l : layer_linears(content_.config, layer)) {
    const FloatWeight& w = weights.at(l.kind);
    const QuantizedLinear& q = linears.at(l.kind);
    if (kv != nullptr && l.in_kv_cache)
      write_kv(l.full_name, l.kind == LinearKind::kK ? kv->k : kv->v);
    if (q.rounded) {
      // A bias that the model does not have is in quant_bias only.
      write_linear(l.full_name, w.bias, l.shape.bias, q);
    } else {
      write_float(l.full_name + ".weight", w.w);
      if (!w.bias.empty()) write_float(l.full_name + ".bias", w.bias);
    }
  }
  for (const LayerNorm& norm : layer_norms(content_.config, layer))
    write_norm(norm.full_name, weights.norms[norm.kind]);
}

void Exporter::Output::write_head(const QuantizedLinear& linear, const RowSource& rows) {
  if (linear.rounded) {
    write_linear(kHead, {}, false, linear);
  } else if (stores_head()) {
    write_rows(kHeadWeight, rows);
  }
}

void Exporter::Output::finish(const ModelFolder& source) {
  writer_->finish();
  const ordered_json description =
      make_description(settings_.layout, type_, settings_.quantize_kv_cache, types_);
  write_text(target_ / description_name(settings_.layout, type_),
             description_text(settings_.layout, description));
  write_config(source.config(), description);
  copy_side_files(source.path(), target_);
}

void Exporter::Output::write_config(const ModelConfig& source,
                                    const ordered_json& description) const {
  ordered_json c = source.raw;
  if (!c.contains("torch_dtype")) c["torch_dtype"] = config_dtype_name(source.dtype);
  c["intermediate_size"] = content_.config.intermediate_size;
  if (source.tie_word_embeddings &&
      (!content_.config.tie_word_embeddings || is_quantized(content_.types.at(kHead))))
    c["tie_word_embeddings"] = false;
  const ToolMethod& tool = content_.tool;
  add_quantization(
      c, settings_.layout, description,
      has_static_input(tool.scheme) && scales_per_token(tool.scheme),
      {{"w_bit", 8},
       {"a_bit", is_weight_only(tool.scheme) ? 16 : 8},
       {"dev_type", "cpu"},
       {"fraction", 0.01},
       {"act_method", static_cast<int>(tool.act_method)},
       {"co_sparse", false},
       {"anti_method", anti_method_name(tool.anti_method)},
       {"disable_level", disable_level_name(tool.disable_level)},
       {"do_smooth", false},
       {"use_sigma", false},
       {"sigma_factor", 3.0},
       {"is_lowbit", false},
       {"mm_tensor", false},
       {"w_sym", !tool.asymmetric_weights},
       {"open_outlier", true},
       {"is_dynamic", scales_per_token(tool.scheme) && !has_static_input(tool.scheme)}});
  write_text(target_ / "config.json", c.dump(4));
}

Exporter::Exporter(const fs::path& target, const ModelFolder& source, ExportContent content,
                   const OutputSettings& settings)
    : source_(source),
      output_(std::make_shared<Output>(target, source.config(),
                                       source.tensors().find(kHeadWeight) != nullptr,
                                       std::move(content), settings)) {}

void Exporter::resume_at(int64_t layer) {
  if (output_->writes()) output_->resume_at(layer);
}

void Exporter::write_embedding(const RowSource& rows) {
  if (output_->writes()) output_->write_rows(kEmbeddingWeight, rows);
}

void Exporter::write_layer(int64_t layer, const FloatLayer& weights,
                           const QuantizedLayer& linears) {
  output_->write_layer(layer, weights, linears);
}

std::function<void()> Exporter::layer_job(int64_t layer, FloatLayer weights,
                                          QuantizedLayer linears) {
  if (!output_->writes()) return {};
  for (size_t i = 0; i < kLinearKinds; ++i)
    if (linears.linears[i].rounded) weights.linears[i].w = {};
  const auto held = std::make_shared<const std::pair<FloatLayer, QuantizedLayer>>(
      std::move(weights), std::move(linears));
  return [output = output_, layer, held] {
    output->write_layer(layer, held->first, held->second);
    output->sync();
  };
}

void Exporter::write_final_norm(const Norm& norm) {
  if (output_->writes()) output_->write_norm(kFinalNorm, norm);
}

void Exporter::write_head(const QuantizedLinear& linear, const RowSource& rows) {
  if (output_->writes()) output_->write_head(linear, rows);
}

void Exporter::finish() {
  if (output_->writes()) output_->finish(source_);
}

uint64_t Exporter::total_bytes() const { return output_->total_bytes(); }

}  // namespace octet
