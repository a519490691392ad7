#include "src/checkpoint/model_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/checkpoint/compressed_tensors.h"

namespace octet {
namespace {

// Whether both hold the same numbers; `a` and `b` have one shape.
bool same_values(const TensorView& a, const TensorView& b) {
  if (a.dtype == b.dtype) return std::ranges::equal(a.data, b.data);
  if (!is_float(a.dtype) || !is_float(b.dtype)) return false;
  constexpr uint64_t kPart = uint64_t{1} << 20;
  for (uint64_t first = 0; first < a.elements(); first += kPart) {
    const uint64_t count = std::min(kPart, a.elements() - first);
    if (a.part(first, count).floats() != b.part(first, count).floats()) return false;
  }
  return true;
}

}  // namespace

ModelFolder::ModelFolder(const fs::path& path)
    : path_(path),
      config_(ModelConfig::load(path)),
      tensors_(path),
      description_(
          is_compressed_tensors(config_.raw)
              ? describe_compressed_tensors(config_, tensors_, (path / "config.json").string())
              : QuantDescription::load(path, config_.raw)) {
  remark_doubled_keys(path / "config.json");
  if (ascend() && description_->source != (path / "config.json").string())
    remark_doubled_keys(description_->source);
  if (!tensors_.unstored().empty()) {
    Finding& f = remark(tensors_.unstored()[0], "the index names a tensor that no file holds");
    f.found = fmt::format("{} of its entries", tensors_.unstored().size());
    f.remedy = "it is read as if they were not there, as transformers does";
  }
  settle_head();
  settle_type();
  settle_biases();
}

Finding& ModelFolder::remark(std::string tensor, std::string problem) {
  Finding& f = remarks_.emplace_back();
  f.severity = Severity::kWarning;
  f.tensor = std::move(tensor);
  f.problem = std::move(problem);
  return f;
}

void ModelFolder::remark_doubled_keys(const fs::path& file) {
  try {
    parse_json(read_text(file), file.string(), {.unique_keys = true});
  } catch (const Error& e) {  // it has been read before
    Finding& f = remark("", e.message());
    f.file = file.string();
    f.found = e.field_name();
    f.remedy = "the last one counts, as for every loader; remove the other";
  }
}

void ModelFolder::settle_type() {
  if (config_.raw.contains("torch_dtype") || config_.raw.contains("dtype")) return;
  const TensorView* embedding = tensors_.find(kEmbeddingWeight);
  if (embedding != nullptr && is_float(embedding->dtype)) config_.dtype = embedding->dtype;
}

void ModelFolder::settle_head() {
  const TensorView* head = tensors_.find(kHeadWeight);
  if (!config_.tie_word_embeddings || head == nullptr) return;
  const TensorView* embedding = tensors_.find(kEmbeddingWeight);
  if (embedding == nullptr) {
    remark(kHeadWeight, "a tied model that stores its head, but no embedding").remedy =
        "the head is both; vLLM refuses that, octet quantize writes the embedding";
    return tensors_.rename(kHeadWeight, kEmbeddingWeight);
  }
  if (head->shape != embedding->shape || same_values(*head, *embedding)) return;
  config_.tie_word_embeddings = false;
  config_.raw["tie_word_embeddings"] = false;
  Finding& f = remark(kHeadWeight,
                      "tie_word_embeddings is true, but the stored head differs from "
                      "the embedding, as after merging a LoRA");
  f.severity = quantized() ? Severity::kError : Severity::kWarning;
  f.remedy =
      "Octet computes with the head and writes false; vLLM and transformers before 5 would "
      "compute with the embedding: set tie_word_embeddings to false";
}

void ModelFolder::settle_biases() {
  if (quantized()) return;  // their biases are settled, and of msModelSlim's some are spare
  std::vector<std::string> denied;
  bool any_o = false, any_q = false;
  for (int64_t layer = 0; layer < config_.layers; ++layer)
    for (const LayerLinear& l : layer_linears(config_, layer)) {
      if (tensors_.find(l.full_name + ".bias") == nullptr) continue;
      if (!l.shape.bias) denied.push_back(l.full_name + ".bias");
      any_o = any_o || l.bias == BiasGroup::kO;
      any_q = any_q || l.bias == BiasGroup::kQkv;
    }
  if (!denied.empty()) {
    Finding& f = remark(denied[0], "a bias that the model's class has not by its config.json");
    f.found = fmt::format("{} of them", denied.size());
    f.remedy =
        "they are left out, as transformers does; if they belong to the model, its "
        "config.json lacks attention_bias or mlp_bias";
  }
  zero_o_bias_ = config_.o_bias && any_q && !any_o;
  if (zero_o_bias_)
    remark(linear_names(0, LayerPart::kO)[0] + ".bias",
           "attention_bias is true, but only q, k and v have biases")
        .remedy = "those of o are zeros, as in transformers; octet quantize writes them";
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
