#include "src/checkpoint/model_folder.h"

#include <fmt/format.h>

#include "src/base/error.h"
#include "src/checkpoint/compressed_tensors.h"

namespace octet {

ModelFolder::ModelFolder(const fs::path& path)
    : path_(path),
      config_(ModelConfig::load(path)),
      tensors_(path),
      description_(
          is_compressed_tensors(config_.raw)
              ? describe_compressed_tensors(config_, tensors_, (path / "config.json").string())
              : QuantDescription::load(path, config_.raw)) {
  if (config_.raw.contains("torch_dtype") || config_.raw.contains("dtype")) return;
  const TensorView* embedding = tensors_.find(kEmbeddingWeight);
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
    if (prefix == kHead && tensors_.find(name) == nullptr) return Scheme::kFloat;
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
        .expected(scheme_names())
        .found(*type);
  return *scheme;
}

const TensorView& ModelFolder::head_weight() const {
  if (const TensorView* t = tensors_.find(kHeadWeight)) return *t;
  if (!config_.tie_word_embeddings)
    throw Error("the checkpoint lacks the output head")
        .file(path_.string())
        .tensor(kHeadWeight)
        .remedy("tie_word_embeddings is false in config.json, so the head must be stored");
  return tensors_.get(kEmbeddingWeight);
}

}  // namespace octet
