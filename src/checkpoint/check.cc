#include "src/checkpoint/check.h"

#include <fmt/format.h>

#include <set>
#include <span>

#include "src/base/error.h"
#include "src/checkpoint/check_files.h"
#include "src/checkpoint/layout.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/scheme.h"

namespace octet {
namespace {

std::string stored_as(const TensorView& t) {
  return fmt::format("{} {}", dtype_name(t.dtype), shape_string(t.shape));
}

bool is_quant_dtype(DType t) { return t == DType::kI8; }

class Checker {
 public:
  explicit Checker(const fs::path& folder) : path_(folder) {}

  std::vector<Finding> run() {
    try {
      folder_.emplace(path_);
    } catch (const Error& e) {
      findings_.error(e.tensor_name(), e.what());
      return findings_.take();
    }
    findings_.add(folder_->remarks());
    check_files(*folder_, findings_);
    check_finite();
    const ModelConfig& c = folder_->config();
    const LinearShape head = head_shape(c);
    check_embedding({head.n, head.k});
    for (int64_t layer = 0; layer < c.layers; ++layer) check_layer(layer);
    check_norm(kFinalNorm, axis_size(c, Axis::kHidden));
    check_head(head);
    warn_per_token();
    warn_kv_cache();
    check_names();
    return findings_.take();
  }

 private:
  void missing(const std::string& name) {
    findings_.error(name, "the tensor is missing").remedy =
        folder_->quantized() ? "quantize again, or restore the lost file"
                             : "a weight file is missing or of another model: get it again";
  }

  // The tensor, when it is there and of that shape; otherwise a finding.
  const TensorView* need(const std::string& name, const Shape& shape) {
    known_.insert(name);
    const TensorView* t = folder_->tensors().find(name);
    if (t == nullptr) {
      missing(name);
      return nullptr;
    }
    if (t->shape != shape) {
      Finding& f = findings_.error(name, "wrong shape");
      f.expected = shape_string(shape);
      f.found = stored_as(*t);
      return nullptr;
    }
    return t;
  }

  void need_dtype(const TensorView& t, DType expected, const char* remedy) {
    if (t.dtype == expected) return;
    Finding& f = findings_.error(t.name, "wrong dtype");
    f.expected = dtype_name(expected);
    f.found = dtype_name(t.dtype);
    f.remedy = remedy;
  }

  void need_float(const TensorView& t) {
    if (is_float(t.dtype)) return;
    Finding& f = findings_.error(t.name, "wrong dtype");
    f.expected = "F16, BF16 or F32";
    f.found = dtype_name(t.dtype);
    if (is_quant_dtype(t.dtype) && folder_->quantized())
      f.remedy = "its description says FLOAT; it should say W8A8";
  }

  // The type word of a linear; a finding and nothing when it cannot be told.
  std::optional<Scheme> scheme_of(const std::string& prefix) {
    if (!folder_->quantized()) return folder_->scheme(prefix);
    const std::string* word = folder_->description()->find(prefix + ".weight");
    if (word == nullptr) {
      Finding& f = findings_.error(prefix + ".weight", "the description has no entry for it");
      f.file = folder_->description()->source;
      f.expected = "FLOAT or W8A8";
      f.remedy = "loaders end with KeyError; add the entry";
      return std::nullopt;
    }
    const auto scheme = parse_scheme(*word);
    if (!scheme) {
      Finding& f = findings_.error(prefix + ".weight", "unknown quantization type");
      f.file = folder_->description()->source;
      f.expected = scheme_names();
      f.found = *word;
    }
    return scheme;
  }

  void check_embedding(const Shape& shape) {
    const std::string prefix = kEmbedding;
    const auto scheme = scheme_of(prefix);
    if (scheme && is_quantized(*scheme))
      findings_.error(prefix + ".weight", "embeddings cannot be quantized").expected = kFloatWord;
    if (const TensorView* t = need(prefix + ".weight", shape)) need_float(*t);
  }

  void check_norm(const std::string& prefix, uint64_t size) {
    const Shape shape = {size};
    const TensorStore& tensors = folder_->tensors();
    if (folder_->compressed_tensors()) {
      if (const TensorView* t = need(prefix + ".weight", shape)) need_float(*t);
      return;
    }
    const bool wrapped = tensors.find(prefix + ".weight") == nullptr &&
                         tensors.find(prefix + ".module.weight") != nullptr;
    if (wrapped) {
      Finding& f =
          findings_.warning(prefix + ".module.weight", "a wrapped norm of an old msModelSlim");
      f.expected = prefix + ".weight";
      f.remedy = "vLLM-Ascend refuses it; rename it, or quantize again";
    }
    for (const char* part : {".module.weight", ".module.bias"}) known_.insert(prefix + part);
    if (const TensorView* t = need(wrapped ? prefix + ".module.weight" : prefix + ".weight", shape))
      need_float(*t);
    if (const TensorView* bias = tensors.find(prefix + ".bias")) {
      need(bias->name, shape);
      need_float(*bias);
      if (folder_->quantized() && folder_->description()->find(bias->name) == nullptr) {
        Finding& f = findings_.error(bias->name, "the description does not name this norm's bias");
        f.file = folder_->description()->source;
        f.expected = kFloatWord;
        f.remedy = "loaders drop the bias silently; add the entry";
      }
    }
  }

  void check_layer(int64_t layer) {
    for (const PartRow& part : part_rows()) {
      std::vector<std::pair<std::string, Scheme>> known;  // linears whose types can be told
      for (const LayerLinear& l : layer_linears(folder_->config(), layer, part.part)) {
        const auto scheme = scheme_of(l.full_name);
        if (!scheme) continue;
        known.emplace_back(l.full_name, *scheme);
        LinearShape stored = l.shape;
        stored.bias = stored.bias && !folder_->has_zero_bias(l);
        check_linear(l.full_name, stored, *scheme);
      }
      check_part(part.words, known);
    }
    for (const LayerLinear& l : layer_linears(folder_->config(), layer))
      if (l.in_kv_cache) check_kv_cache(l);
    for (const LayerNorm& norm : layer_norms(folder_->config(), layer))
      check_norm(norm.full_name, norm.count);
  }

  // Loaders fuse the linears of a part into one matrix: one type, one input quantization.
  void check_part(const char* part, const std::vector<std::pair<std::string, Scheme>>& linears) {
    if (linears.empty()) return;
    const auto& [first, type] = linears[0];
    for (const auto& [name, scheme] : linears) {
      if (scheme != type) {
        Finding& f = findings_.error(name + ".weight", fmt::format("mixed types inside {}", part));
        f.expected = scheme_name(type);
        f.found = scheme_name(scheme);
        f.remedy = "vLLM-Ascend refuses it; keep the whole group in float (--disable_names)";
        continue;
      }
      if (!folder_->ascend()) continue;
      for (const char* suffix : {suffix::kInputScale, suffix::kInputOffset}) {
        const TensorView* a = folder_->tensors().find(first + suffix);
        const TensorView* b = folder_->tensors().find(name + suffix);
        if (a == nullptr || b == nullptr || a->elements() != 1 || b->elements() != 1) continue;
        const float of_a = quant_values(*a)[0], of_b = quant_values(*b)[0];
        if (of_a == of_b) continue;
        Finding& f = findings_.error(name + suffix, fmt::format("differs inside {}", part));
        f.expected = fmt::format("{} (of {})", of_a, a->name);
        f.found = fmt::format("{}", of_b);
        f.remedy = "vLLM-Ascend keeps one of them silently, MindIE refuses";
      }
    }
  }

  void check_linear(const std::string& name, const LinearShape& s, Scheme scheme) {
    if (s.bias) {
      if (const TensorView* t = need(name + ".bias", {s.n})) need_float(*t);
    }
    const TensorView* weight = need(name + ".weight", {s.n, s.k});
    if (!is_quantized(scheme)) {
      if (weight != nullptr) need_float(*weight);
      return;
    }
    if (weight != nullptr)
      need_dtype(*weight, DType::kI8, "the description says it is quantized; the file does not");
    check_quant_tensors(name, quant_tensors(*folder_, scheme), s.n);
    if (scales_per_token(scheme)) per_token_.push_back(name + ".weight");
    if (is_weight_only(scheme))
      warn_nonzero(name + suffix::kWeightOffset,
                   "vLLM-Ascend and MindIE add it with different signs; --w_sym True");
  }

  // The tensors that `rules` name below `prefix`; n: outputs of the linear.
  void check_quant_tensors(const std::string& prefix, std::span<const QuantTensor> rules,
                           uint64_t n) {
    for (const QuantTensor& rule : rules) {
      const std::string name = prefix + rule.suffix;
      known_.insert(name);
      const TensorView* t = folder_->tensors().find(name);
      if (t == nullptr) {
        if (rule.needed) missing(name);
        continue;
      }
      if (const auto problem = problem_of(*t, rule, n)) {
        Finding& f = findings_.error(name, problem->problem);
        f.expected = problem->expected;
        f.found = problem->found;
        f.remedy = "quantize again";
        continue;
      }
      if (rule.form == QuantTensor::Form::kOne && folder_->ascend())
        need(name, {1});  // [] is for Octet only
      if (rule.type == QuantTensor::Type::kDeqScale)
        need_dtype(*t, folder_->config().dtype == DType::kBF16 ? DType::kF32 : DType::kI64,
                   "it must fit torch_dtype in config.json: F32 for bfloat16, else I64 with "
                   "float32 bits; loaders convert it by value, which destroys the model");
    }
  }

  void warn_nonzero(const std::string& name, const char* remedy) {
    const TensorView* t = folder_->tensors().find(name);
    if (t == nullptr || !is_float(t->dtype)) return;
    for (float v : t->floats())
      if (v != 0) {
        Finding& f = findings_.warning(name, "not every loader takes an offset");
        f.expected = "zeros";
        f.found = fmt::format("{}", v);
        f.remedy = remedy;
        return;
      }
  }

  // The scales of an int8 KV cache, which belong to k_proj and v_proj.
  void check_kv_cache(const LayerLinear& linear) {
    const std::string& prefix = linear.full_name;
    if (folder_->int8_kv()) {
      check_quant_tensors(prefix, kv_cache_tensors(), linear.shape.n);
      warn_nonzero(prefix + suffix::kKvOffset,
                   "vLLM-Ascend adds it when it writes the cache, but not when it reads it");
      return;
    }
    for (const QuantTensor& rule : kv_cache_tensors()) {
      const std::string name = prefix + rule.suffix;
      known_.insert(name);
      if (folder_->tensors().find(name) == nullptr) continue;
      Finding& f = findings_.warning(name, "the description does not ask for an int8 KV cache");
      f.expected = fmt::format("{} {}", fmt::join(kKvCacheKeys, " and "), kKvCacheWord);
      f.remedy = "loaders do not use it; add the keys";
    }
  }

  void check_head(const LinearShape& shape) {
    const bool stored = folder_->tensors().find(kHeadWeight) != nullptr;
    const bool tied = folder_->config().tie_word_embeddings;
    if (folder_->quantized()) {
      const auto scheme = scheme_of(kHead);
      if (scheme && is_quantized(*scheme)) {
        findings_.warning(kHeadWeight, "the output head is quantized").remedy =
            "MindIE and vLLM keep heads in float only, vLLM-Ascend excepted; "
            "--disable_last_linear True";
        return check_linear(kHead, shape, *scheme);
      }
    }
    if (stored || !tied) {
      if (const TensorView* t = need(kHeadWeight, {shape.n, shape.k})) need_float(*t);
    }
  }

  // MindIE takes them in float16 models; vLLM-Ascend holds their scales in the model's type, which
  // its matrix product refuses.
  void warn_per_token() {
    if (folder_->config().dtype != DType::kF16 || !folder_->ascend() || per_token_.empty()) return;
    Finding& f = findings_.warning(per_token_[0], "scales per token in a float16 model");
    f.expected = "W8A8, or a bfloat16 model";
    f.found = fmt::format("{}, {} linears", folder_->description()->types.at(per_token_[0]),
                          per_token_.size());
    f.remedy = "vLLM-Ascend refuses it, MindIE does not: --dynamic_budget 0, or no --is_dynamic";
  }

  // vLLM's loaders of some families look the offsets up by their stored names only, until that
  // version.
  void warn_kv_cache() {
    const Architecture& a = architecture(folder_->config().family);
    if (!folder_->int8_kv() || !a.late_kv_offset) return;
    Finding& f = findings_.warning("", fmt::format("an int8 KV cache of a {} model", a.models));
    f.remedy = "vLLM-Ascend before 0.25.1 ends with KeyError ... kv_cache_offset; MindIE does not";
  }

  // Tensors that no loader knows, and entries of the description without a tensor.
  void check_names() {
    for (const TensorView* t : folder_->tensors().all()) {
      if (known_.contains(t->name) || t->name == kHeadWeight || t->name.ends_with(kRopeBuffer))
        continue;
      const bool bias = t->name.ends_with(".bias");
      if (bias && !folder_->compressed_tensors()) continue;
      Finding& f = findings_.error(t->name, "no loader knows this tensor");
      f.found = stored_as(*t);
      f.remedy = bias ? "loaders drop the bias; attention_bias or mlp_bias in config.json"
                      : "loaders end with KeyError; remove it";
    }
    if (!folder_->ascend()) return;
    for (const auto& [name, type] : folder_->description()->types)
      if (folder_->tensors().find(name) == nullptr && name != kHeadWeight) {
        Finding& f = findings_.error(name, "the description names a tensor that is not stored");
        f.file = folder_->description()->source;
        f.found = type;
      }
    for (const TensorView* t : folder_->tensors().all())
      if (folder_->description()->find(t->name) == nullptr) {
        Finding& f = findings_.warning(t->name, "the description does not name this tensor");
        f.file = folder_->description()->source;
        f.found = stored_as(*t);
      }
  }

  void check_finite() {
    for (const TensorView* t : folder_->tensors().all()) {
      try {
        t->expect_finite();
      } catch (const Error& e) {
        findings_.error(t->name, e.message()).remedy =
            folder_->quantized() ? "the checkpoint is damaged; get it or quantize it again"
                                 : "the checkpoint is damaged; get it again";
      }
    }
  }

  fs::path path_;
  std::optional<ModelFolder> folder_;
  std::set<std::string> known_;
  std::vector<std::string> per_token_;  // weights of W8A8_DYNAMIC and W8A8_MIX
  Findings findings_;
};

}  // namespace

std::vector<Finding> check_folder(const fs::path& folder) { return Checker(folder).run(); }

}  // namespace octet
