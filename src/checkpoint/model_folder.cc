#include "src/checkpoint/model_folder.h"

#include <fmt/format.h>

#include "src/base/error.h"
#include "src/checkpoint/compressed_tensors.h"

namespace octet {

const char* linear_short_name(LinearKind kind) {
  switch (kind) {
    case LinearKind::kQ:
      return "q_proj";
    case LinearKind::kK:
      return "k_proj";
    case LinearKind::kV:
      return "v_proj";
    case LinearKind::kO:
      return "o_proj";
    case LinearKind::kGate:
      return "gate_proj";
    case LinearKind::kUp:
      return "up_proj";
    case LinearKind::kDown:
      return "down_proj";
  }
  OCTET_CHECK(false);
}

std::string layer_prefix(int64_t layer) { return fmt::format("model.layers.{}.", layer); }

std::optional<int64_t> layer_of(const std::string& tensor) {
  constexpr std::string_view kStart = "model.layers.";
  if (!tensor.starts_with(kStart)) return std::nullopt;
  return std::atoll(tensor.c_str() + kStart.size());
}

std::string linear_name(int64_t layer, LinearKind kind) {
  const bool attention = kind <= LinearKind::kO;
  return layer_prefix(layer) + (attention ? "self_attn." : "mlp.") + linear_short_name(kind);
}

LinearShape linear_shape(const ModelConfig& c, LinearKind kind) {
  const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
  switch (kind) {
    case LinearKind::kQ:
      return {u(c.q_size()), u(c.hidden_size), c.qkv_bias};
    case LinearKind::kK:
    case LinearKind::kV:
      return {u(c.kv_size()), u(c.hidden_size), c.qkv_bias};
    case LinearKind::kO:
      return {u(c.hidden_size), u(c.q_size()), c.o_bias};
    case LinearKind::kGate:
    case LinearKind::kUp:
      return {u(c.intermediate_size), u(c.hidden_size), c.mlp_bias};
    case LinearKind::kDown:
      return {u(c.hidden_size), u(c.intermediate_size), c.mlp_bias};
  }
  OCTET_CHECK(false);
}

LinearShape head_shape(const ModelConfig& c) {
  return {static_cast<uint64_t>(c.vocab_size), static_cast<uint64_t>(c.hidden_size), false};
}

std::vector<std::pair<std::string, LinearShape>> linears_of(const ModelConfig& config) {
  std::vector<std::pair<std::string, LinearShape>> all;
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (LinearKind kind : kLinearKinds)
      all.emplace_back(linear_name(layer, kind), linear_shape(config, kind));
  all.emplace_back("lm_head", head_shape(config));
  return all;
}

ModelFolder::ModelFolder(const fs::path& path)
    : path_(path),
      config_(ModelConfig::load(path)),
      tensors_(path),
      description_(
          is_compressed_tensors(config_.raw)
              ? describe_compressed_tensors(config_, tensors_, (path / "config.json").string())
              : QuantDescription::load(path, config_.raw)) {
  if (config_.raw.contains("torch_dtype") || config_.raw.contains("dtype")) return;
  const TensorView* embedding = tensors_.find("model.embed_tokens.weight");
  if (embedding != nullptr && is_float(embedding->dtype)) config_.dtype = embedding->dtype;
}

std::string ModelFolder::type_words() const {
  if (!quantized()) return "float";
  const std::string& type = description_->model_quant_type;
  return (type.empty() ? "quantized" : type) + (int8_kv() ? ", int8 KV cache" : "") +
         (compressed_tensors() ? ", compressed-tensors" : "");
}

Scheme ModelFolder::scheme(const std::string& prefix) const {
  if (!description_) return Scheme::kFloat;
  const std::string name = prefix + ".weight";
  const std::string* type = description_->find(name);
  if (type == nullptr) {
    // A tied head has no tensor and needs no entry.
    if (prefix == "lm_head" && tensors_.find(name) == nullptr) return Scheme::kFloat;
    throw Error("the quantization description does not name a tensor")
        .file(description_->source)
        .tensor(name)
        .remedy(
            "run `octet check` on the folder; a partial quantization_config in config.json "
            "must be removed");
  }
  const auto scheme = parse_scheme(*type);
  if (!scheme)
    throw Error("this quantization type is not supported")
        .file(description_->source)
        .tensor(name)
        .expected("FLOAT, W8A8, W8A8_DYNAMIC, W8A16 or W8A8_MIX")
        .found(*type);
  return *scheme;
}

const TensorView& ModelFolder::head_weight() const {
  if (const TensorView* t = tensors_.find("lm_head.weight")) return *t;
  if (!config_.tie_word_embeddings)
    throw Error("the checkpoint lacks the output head")
        .file(path_.string())
        .tensor("lm_head.weight")
        .remedy("tie_word_embeddings is false in config.json, so the head must be stored");
  return tensors_.get("model.embed_tokens.weight");
}

}  // namespace octet
