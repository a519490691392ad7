#include "src/quant/output/export.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>

#include "src/base/error.h"
#include "src/checkpoint/side_files.h"
#include "src/quant/int8/encode.h"

namespace octet {
namespace {

constexpr const char* kFloat = "FLOAT";
constexpr const char* kKvCache = "C8";

}  // namespace

Exporter::Exporter(const fs::path& target, const ModelFolder& source, ExportLayout layout,
                   const QuantizeOptions& options)
    : target_(target),
      source_(source),
      layout_(std::move(layout)),
      options_(options),
      files_(options.layout()),
      float_type_(stored_dtype(source.config(), options)),
      quantized_type_(files_ == Layout::kMsmodelslimV1 ? DType::kF32 : float_type_),
      deq_type_(source.config().dtype == DType::kBF16 ? DType::kF32 : DType::kI64),
      type_(word(layout_.model_type())) {
  plan();
  if (target_.empty()) return;
  writer_ = std::make_unique<SafetensorsWriter>(
      target_, specs_,
      WriterOptions{weights_stem(files_, type_), options_.part_bytes,
                    /*metadata=*/!options_.compat_msmodelslim});
}

Scheme ExportLayout::model_type() const {
  // The order of msModelSlim v1, highest last.
  constexpr std::array kRank = {Scheme::kFloat, Scheme::kW8A16, Scheme::kW8A8Dynamic,
                                Scheme::kW8A8Mix, Scheme::kW8A8};
  auto best = kRank.begin();
  for (const auto& [name, scheme] : types)
    best = std::max(best, std::find(kRank.begin(), kRank.end(), scheme));
  return *best;
}

// The word for a type. The older layout has none for W8A8_MIX.
std::string Exporter::word(Scheme scheme) const {
  const bool mix_as_static = files_ == Layout::kMindie && scheme == Scheme::kW8A8Mix;
  return scheme_name(mix_as_static ? Scheme::kW8A8 : scheme);
}

bool Exporter::stores_weight_scale(Scheme scheme) const {
  return scheme != Scheme::kW8A8 || stores_spare_scales(files_);
}

// msModelSlim leaves a zero bias on every norm that it has wrapped; m6 wraps none.
bool Exporter::norm_bias() const {
  return options_.compat_msmodelslim && options_.anti_method != AntiMethod::kNone &&
         options_.anti_method != AntiMethod::kM6;
}

// A tied head is stored by itself only where it differs from the embedding, or as the tool does.
bool Exporter::stores_head() const {
  return !layout_.config.tie_word_embeddings || options_.compat_msmodelslim ||
         layout_.types.at("lm_head") != Scheme::kFloat ||
         source_.tensors().find("lm_head.weight") != nullptr;
}

void Exporter::plan_tensor(const std::string& name, DType dtype, Shape shape,
                           const std::string& type) {
  specs_.push_back({name, dtype, std::move(shape)});
  types_.emplace_back(name, type);
}

void Exporter::plan_float(const std::string& name, Shape shape) {
  plan_tensor(name, float_type_, std::move(shape), kFloat);
}

void Exporter::plan_norm(const std::string& prefix) {
  const Shape shape = {static_cast<uint64_t>(layout_.config.hidden_size)};
  plan_float(prefix + ".weight", shape);
  if (!norm_bias()) return;
  plan_float(prefix + ".bias", shape);
  if (files_ != Layout::kMindie) return;
  for (const char* part : {".module.weight", ".module.bias"})
    plan_tensor(prefix + part, float_type_, shape, type_);
}

void Exporter::plan_linear(const std::string& name, const LinearShape& s) {
  const Scheme type = layout_.types.at(name);
  if (type == Scheme::kFloat) {
    plan_float(name + ".weight", {s.n, s.k});
    if (s.bias) plan_float(name + ".bias", {s.n});
    return;
  }
  const auto add = [&](const char* part, DType dtype, Shape shape) {
    plan_tensor(name + part, dtype, std::move(shape), word(type));
  };
  add(".weight", DType::kI8, {s.n, s.k});
  if (s.bias) plan_tensor(name + ".bias", quantized_type_, {s.n}, kFloat);
  if (stores_weight_scale(type)) {
    // In float32 whatever the model's type: small scales are no float16.
    add(".weight_scale", DType::kF32, {s.n, 1});
    add(".weight_offset", DType::kF32, {s.n, 1});
  }
  if (!has_static_input(type)) return;
  add(".input_scale", quantized_type_, {1});
  add(".input_offset", quantized_type_, {1});
  add(".quant_bias", DType::kI32, {s.n});
  add(".deq_scale", deq_type_, {s.n});
}

void Exporter::plan_kv(const std::string& name, uint64_t channels) {
  for (const char* part : {".kv_cache_scale", ".kv_cache_offset"})
    plan_tensor(name + part, DType::kF32, {channels}, kKvCache);
}

void Exporter::plan() {
  const ModelConfig& c = layout_.config;
  const Shape vocab = {static_cast<uint64_t>(c.vocab_size), static_cast<uint64_t>(c.hidden_size)};
  plan_float("model.embed_tokens.weight", vocab);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    for (LinearKind kind : kLinearKinds) {
      const std::string name = linear_name(layer, kind);
      const LinearShape shape = linear_shape(c, kind);
      if (options_.quantize_kv_cache && (kind == LinearKind::kK || kind == LinearKind::kV))
        plan_kv(name, shape.n);
      plan_linear(name, shape);
    }
    plan_norm(layer_prefix(layer) + "input_layernorm");
    plan_norm(layer_prefix(layer) + "post_attention_layernorm");
  }
  plan_norm("model.norm");
  if (stores_head()) {
    plan_linear("lm_head", {vocab[0], vocab[1], false});
  } else {
    types_.emplace_back("lm_head.weight", kFloat);  // loaders look it up for tied heads, too
  }
}

void Exporter::write_float(const std::string& name, std::span<const float> values) {
  writer_->write(name, encode(values, float_type_));
}

// A table [rows, hidden] in parts.
void Exporter::write_rows(const std::string& name, const RowSource& rows) {
  constexpr size_t kPart = 1024;
  const size_t count = static_cast<size_t>(layout_.config.vocab_size);
  for (size_t first = 0; first < count; first += kPart)
    writer_->append(name, encode(rows(first, std::min(kPart, count - first)), float_type_));
}

void Exporter::write_norm(const std::string& prefix, const Norm& norm) {
  write_float(prefix + ".weight", norm.weight);
  if (!norm_bias()) return;
  std::vector<float> bias = norm.bias;
  bias.resize(norm.weight.size(), 0.0f);
  write_float(prefix + ".bias", bias);
  if (files_ != Layout::kMindie) return;
  write_float(prefix + ".module.weight", norm.weight);
  write_float(prefix + ".module.bias", bias);
}

void Exporter::write_linear(const std::string& name, const std::vector<float>& bias,
                            bool stores_bias, const QuantizedLinear& linear) {
  const Scheme type = layout_.types.at(name);
  // The bias that is computed with: with static inputs it is in quant_bias, and `.bias` the
  // model's.
  const std::vector<float>& used = linear.corrected_bias.empty() ? bias : linear.corrected_bias;
  writer_->write(name + ".weight", linear.rounded->q);
  if (stores_bias)
    writer_->write(name + ".bias", encode(has_static_input(type) ? bias : used, quantized_type_));
  if (stores_weight_scale(type)) {
    writer_->write(name + ".weight_scale", linear.rounded->scale);
    writer_->write(name + ".weight_offset", linear.rounded->offset);
  }
  if (has_static_input(type)) write_static(name, used, linear);
}

void Exporter::write_static(const std::string& name, const std::vector<float>& bias,
                            const QuantizedLinear& linear) {
  const RoundedWeight& w = *linear.rounded;
  for (const auto& [part, value] : {std::pair(".input_scale", linear.input.scale),
                                    std::pair(".input_offset", linear.input.offset)})
    writer_->write(name + part, encode(std::span(&value, 1), quantized_type_));
  writer_->write(name + ".quant_bias",
                 quant_bias(name, w, linear.input, bias, options_.compat_msmodelslim));
  const std::vector<float> d = deq_scale(w, linear.input);
  if (deq_type_ == DType::kF32) {
    writer_->write(name + ".deq_scale", d);
  } else {
    std::vector<int64_t> bits(d.size());
    for (size_t j = 0; j < d.size(); ++j) bits[j] = std::bit_cast<int32_t>(d[j]);
    writer_->write(name + ".deq_scale", bits);
  }
}

void Exporter::write_kv(const std::string& name, const std::vector<float>& scale) {
  writer_->write(name + ".kv_cache_scale", scale);
  writer_->write(name + ".kv_cache_offset", std::vector<float>(scale.size(), 0.0f));
}

void Exporter::resume_at(int64_t layer) {
  if (writer_ == nullptr) return;
  const std::string first = layer < layout_.config.layers ? layer_prefix(layer) : "model.norm.";
  const auto it = std::find_if(specs_.begin(), specs_.end(),
                               [&](const TensorSpec& s) { return s.name.starts_with(first); });
  writer_->resume_at(static_cast<size_t>(it - specs_.begin()));
  // What else the run wrote, it wrote at its end, perhaps in part.
  std::vector<fs::path> rest;
  for (const auto& entry : fs::directory_iterator(target_))
    if (entry.path().extension() != ".safetensors") rest.push_back(entry.path());
  for (const fs::path& path : rest) fs::remove_all(path);
}

void Exporter::write_embedding(const RowSource& rows) {
  if (writer_ != nullptr) write_rows("model.embed_tokens.weight", rows);
}

void Exporter::write_layer(int64_t layer, const FloatLayer& weights,
                           const QuantizedLayer& linears) {
  for (LinearKind kind : kLinearKinds) {
    const std::string name = linear_name(layer, kind);
    const FloatWeight& w = weights.at(kind);
    const QuantizedLinear& q = linears.at(kind);
    if (linears.kv && kind == LinearKind::kK) write_kv(name, linears.kv->k);
    if (linears.kv && kind == LinearKind::kV) write_kv(name, linears.kv->v);
    if (q.rounded) {
      // A bias that the model does not have is in quant_bias only.
      write_linear(name, w.bias, linear_shape(layout_.config, kind).bias, q);
    } else {
      write_float(name + ".weight", w.w);
      if (!w.bias.empty()) write_float(name + ".bias", w.bias);
    }
  }
  write_norm(layer_prefix(layer) + "input_layernorm", weights.input_norm);
  write_norm(layer_prefix(layer) + "post_attention_layernorm", weights.post_norm);
}

std::function<void()> Exporter::layer_job(int64_t layer, FloatLayer weights,
                                          QuantizedLayer linears) {
  if (writer_ == nullptr) return {};
  for (LinearKind kind : kLinearKinds)
    if (linears.at(kind).rounded) weights.at(kind).w = {};
  const auto held = std::make_shared<const std::pair<FloatLayer, QuantizedLayer>>(
      std::move(weights), std::move(linears));
  return [this, layer, held] {
    write_layer(layer, held->first, held->second);
    sync();
  };
}

void Exporter::write_final_norm(const Norm& norm) {
  if (writer_ != nullptr) write_norm("model.norm", norm);
}

void Exporter::write_head(const QuantizedLinear& linear, const RowSource& rows) {
  if (writer_ == nullptr) return;
  if (linear.rounded) {
    write_linear("lm_head", {}, false, linear);
  } else if (stores_head()) {
    write_rows("lm_head.weight", rows);
  }
}

void Exporter::finish() {
  if (writer_ == nullptr) return;
  writer_->finish();
  const ordered_json description =
      make_description(files_, type_, options_.quantize_kv_cache, types_);
  write_text(target_ / description_name(files_, type_), description_text(files_, description));
  write_config(description);
  copy_side_files(source_.path(), target_);
}

void Exporter::write_config(const ordered_json& description) const {
  ordered_json c = source_.config().raw;
  if (!c.contains("torch_dtype")) c["torch_dtype"] = config_dtype_name(source_.config().dtype);
  c["intermediate_size"] = layout_.config.intermediate_size;
  if (source_.config().tie_word_embeddings &&
      (!layout_.config.tie_word_embeddings || layout_.types.at("lm_head") != Scheme::kFloat))
    c["tie_word_embeddings"] = false;
  if (files_ == Layout::kOctet) {
    c["quantize"] = type_suffix(type_);  // what MindIE's ATB backend reads
    c["quantization_config"] = description;
  } else if (files_ == Layout::kMindie) {
    const ordered_json none = nullptr;
    c["quantize"] = type_suffix(type_);
    c["quantization_config"] = {
        {"group_size", 0},
        {"kv_quant_type", options_.quantize_kv_cache ? ordered_json(kKvCache) : none},
        {"fa_quant_type", none},
        {"w_bit", 8},
        {"a_bit", options_.scheme == Scheme::kW8A16 ? 16 : 8},
        {"dev_type", "cpu"},
        {"fraction", 0.01},
        {"act_method", static_cast<int>(options_.act_method)},
        {"co_sparse", false},
        {"anti_method", anti_method_name(options_.anti_method)},
        {"disable_level", disable_level_name(options_.disable_level)},
        {"do_smooth", false},
        {"use_sigma", false},
        {"sigma_factor", 3.0},
        {"is_lowbit", false},
        {"mm_tensor", false},
        {"w_sym", !options_.asymmetric_weights},
        {"open_outlier", true},
        {"is_dynamic", options_.scheme == Scheme::kW8A8Dynamic}};
    if (options_.scheme == Scheme::kW8A8Mix) c["quantization_config"]["pdmix"] = true;
  }
  write_text(target_ / "config.json", c.dump(4));
}

}  // namespace octet
