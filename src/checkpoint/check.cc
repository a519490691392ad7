#include "src/checkpoint/check.h"

#include <fmt/format.h>

#include <set>
#include <span>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/quant_tensors.h"

namespace octet {
namespace {

std::string describe(const TensorView& t) {
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
      error(e.tensor_name(), e.what());
      return std::move(findings_);
    }
    check_description_files();
    check_side_files();
    check_config();
    check_stray_files();
    check_finite();
    const ModelConfig& c = folder_->config();
    const uint64_t vocab = static_cast<uint64_t>(c.vocab_size),
                   hidden = static_cast<uint64_t>(c.hidden_size);
    check_float("model.embed_tokens", {vocab, hidden}, true);
    for (int64_t layer = 0; layer < c.layers; ++layer) check_layer(layer);
    check_norm("model.norm");
    check_head(vocab, hidden);
    warn_per_token();
    check_names();
    return std::move(findings_);
  }

 private:
  Finding& add(Severity severity, std::string tensor, std::string problem) {
    return findings_.emplace_back(
        Finding{severity, "", std::move(tensor), std::move(problem), "", "", ""});
  }
  Finding& error(std::string tensor, std::string problem) {
    return add(Severity::kError, std::move(tensor), std::move(problem));
  }
  Finding& warning(std::string tensor, std::string problem) {
    return add(Severity::kWarning, std::move(tensor), std::move(problem));
  }

  void missing(const std::string& name) {
    error(name, "the tensor is missing").remedy = "quantize again, or restore the lost file";
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
      Finding& f = error(name, "wrong shape");
      f.expected = shape_string(shape);
      f.found = describe(*t);
      return nullptr;
    }
    return t;
  }

  void need_dtype(const TensorView& t, DType expected, const char* remedy) {
    if (t.dtype == expected) return;
    Finding& f = error(t.name, "wrong dtype");
    f.expected = dtype_name(expected);
    f.found = dtype_name(t.dtype);
    f.remedy = remedy;
  }

  void need_float(const TensorView& t) {
    if (is_float(t.dtype)) return;
    Finding& f = error(t.name, "wrong dtype");
    f.expected = "F16, BF16 or F32";
    f.found = dtype_name(t.dtype);
    if (is_quant_dtype(t.dtype)) f.remedy = "its description says FLOAT; it should say W8A8";
  }

  // The type word of a linear; a finding and nothing when it cannot be told.
  std::optional<Scheme> scheme_of(const std::string& prefix) {
    if (!folder_->quantized()) return Scheme::kFloat;
    const std::string* word = folder_->description()->find(prefix + ".weight");
    if (word == nullptr) {
      Finding& f = error(prefix + ".weight", "the description has no entry for it");
      f.file = folder_->description()->source;
      f.expected = "FLOAT or W8A8";
      f.remedy = "loaders end with KeyError; add the entry";
      return std::nullopt;
    }
    const auto scheme = parse_scheme(*word);
    if (!scheme) {
      Finding& f = error(prefix + ".weight", "unknown quantization type");
      f.file = folder_->description()->source;
      f.expected = "FLOAT, W8A8, W8A8_DYNAMIC, W8A8_MIX or W8A16";
      f.found = *word;
    }
    return scheme;
  }

  void check_float(const std::string& prefix, const Shape& shape, bool must_be_float) {
    const auto scheme = scheme_of(prefix);
    if (must_be_float && scheme && *scheme != Scheme::kFloat)
      error(prefix + ".weight", "embeddings cannot be quantized").expected = "FLOAT";
    if (const TensorView* t = need(prefix + ".weight", shape)) need_float(*t);
  }

  void check_norm(const std::string& prefix) {
    const Shape shape = {static_cast<uint64_t>(folder_->config().hidden_size)};
    const TensorStore& tensors = folder_->tensors();
    const bool wrapped = tensors.find(prefix + ".weight") == nullptr &&
                         tensors.find(prefix + ".module.weight") != nullptr;
    if (wrapped) {
      Finding& f = warning(prefix + ".module.weight", "a wrapped norm of an old msModelSlim");
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
        Finding& f = error(bias->name, "the description does not name this norm's bias");
        f.file = folder_->description()->source;
        f.expected = "FLOAT";
        f.remedy = "loaders drop the bias silently; add the entry";
      }
    }
  }

  void check_layer(int64_t layer) {
    std::map<LinearKind, Scheme> schemes;
    for (LinearKind kind : kLinearKinds) {
      const std::string name = linear_name(layer, kind);
      const auto scheme = scheme_of(name);
      if (!scheme) continue;
      schemes[kind] = *scheme;
      check_linear(name, linear_shape(folder_->config(), kind), *scheme);
    }
    check_group(layer, {LinearKind::kQ, LinearKind::kK, LinearKind::kV}, schemes, "q/k/v");
    check_group(layer, {LinearKind::kGate, LinearKind::kUp}, schemes, "gate/up");
    check_kv_cache(layer);
    check_norm(layer_prefix(layer) + "input_layernorm");
    check_norm(layer_prefix(layer) + "post_attention_layernorm");
  }

  // Loaders fuse these into one matrix: one type, one input quantization.
  void check_group(int64_t layer, const std::vector<LinearKind>& kinds,
                   const std::map<LinearKind, Scheme>& schemes, const char* group) {
    const LinearKind first = kinds[0];
    for (LinearKind kind : kinds) {
      if (!schemes.contains(kind) || !schemes.contains(first)) continue;
      const std::string name = linear_name(layer, kind);
      if (schemes.at(kind) != schemes.at(first)) {
        Finding& f = error(name + ".weight", fmt::format("mixed types inside {}", group));
        f.expected = scheme_name(schemes.at(first));
        f.found = scheme_name(schemes.at(kind));
        f.remedy = "vLLM-Ascend refuses it; keep the whole group in float (--disable_names)";
        continue;
      }
      for (const char* part : {".input_scale", ".input_offset"}) {
        const TensorView* a = folder_->tensors().find(linear_name(layer, first) + part);
        const TensorView* b = folder_->tensors().find(name + part);
        if (a == nullptr || b == nullptr || !is_float(a->dtype) || !is_float(b->dtype) ||
            a->elements() != 1 || b->elements() != 1 || a->floats() == b->floats())
          continue;
        Finding& f = error(name + part, fmt::format("differs inside {}", group));
        f.expected = fmt::format("{} (of {})", a->floats()[0], a->name);
        f.found = fmt::format("{}", b->floats()[0]);
        f.remedy = "vLLM-Ascend keeps one of them silently, MindIE refuses";
      }
    }
  }

  void check_linear(const std::string& name, const LinearShape& s, Scheme scheme) {
    if (s.bias) {
      if (const TensorView* t = need(name + ".bias", {s.n})) need_float(*t);
    }
    const TensorView* weight = need(name + ".weight", {s.n, s.k});
    if (scheme == Scheme::kFloat) {
      if (weight != nullptr) need_float(*weight);
      return;
    }
    if (weight != nullptr)
      need_dtype(*weight, DType::kI8, "the description says it is quantized; the file does not");
    check_quant_tensors(name, quant_tensors(scheme), s.n);
    if (scales_per_token(scheme)) per_token_.push_back(name + ".weight");
    if (scheme == Scheme::kW8A16)
      warn_nonzero(name + ".weight_offset",
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
        Finding& f = error(name, problem->problem);
        f.expected = problem->expected;
        f.found = problem->found;
        f.remedy = "quantize again";
        continue;
      }
      if (rule.form == QuantTensor::Form::kOne) need(name, {1});  // [] is for Octet only
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
        Finding& f = warning(name, "not every loader takes an offset");
        f.expected = "zeros";
        f.found = fmt::format("{}", v);
        f.remedy = remedy;
        return;
      }
  }

  // The scales of an int8 KV cache, which belong to k_proj and v_proj.
  void check_kv_cache(int64_t layer) {
    for (LinearKind kind : {LinearKind::kK, LinearKind::kV}) {
      const std::string prefix = linear_name(layer, kind);
      if (folder_->int8_kv()) {
        check_quant_tensors(prefix, kv_cache_tensors(),
                            static_cast<uint64_t>(folder_->config().kv_size()));
        warn_nonzero(prefix + ".kv_cache_offset",
                     "vLLM-Ascend adds it when it writes the cache, but not when it reads it");
        continue;
      }
      for (const QuantTensor& rule : kv_cache_tensors()) {
        const std::string name = prefix + rule.suffix;
        known_.insert(name);
        if (folder_->tensors().find(name) == nullptr) continue;
        Finding& f = warning(name, "the description does not ask for an int8 KV cache");
        f.expected = "kv_cache_type and kv_quant_type C8";
        f.remedy = "loaders do not use it; add the keys";
      }
    }
  }

  void check_head(uint64_t vocab, uint64_t hidden) {
    const bool stored = folder_->tensors().find("lm_head.weight") != nullptr;
    const bool tied = folder_->config().tie_word_embeddings;
    if (folder_->quantized()) {
      const auto scheme = scheme_of("lm_head");
      if (scheme && *scheme != Scheme::kFloat) {
        warning("lm_head.weight", "the output head is quantized").remedy =
            "MindIE keeps heads in float only; --disable_last_linear True";
        return check_linear("lm_head", {vocab, hidden, false}, *scheme);
      }
    }
    if (stored || !tied) {
      if (const TensorView* t = need("lm_head.weight", {vocab, hidden})) need_float(*t);
    }
  }

  // MindIE takes them in float16 models; vLLM-Ascend holds their scales in the model's type, which
  // its matrix product refuses.
  void warn_per_token() {
    if (folder_->config().dtype != DType::kF16 || per_token_.empty()) return;
    Finding& f = warning(per_token_[0], "scales per token in a float16 model");
    f.expected = "W8A8, or a bfloat16 model";
    f.found = fmt::format("{}, {} linears", folder_->description()->types.at(per_token_[0]),
                          per_token_.size());
    f.remedy = "vLLM-Ascend refuses it, MindIE does not: --dynamic_budget 0, or no --is_dynamic";
  }

  void check_description_files() {
    const bool has_int8 = [&] {
      for (const TensorView* t : folder_->tensors().all())
        if (is_quant_dtype(t->dtype)) return true;
      return false;
    }();
    const ordered_json& raw = folder_->config().raw;
    const bool in_config =
        raw.contains("quantization_config") && raw["quantization_config"].is_object();
    if (!folder_->quantized()) {
      if (has_int8) {
        Finding& f = error("", "int8 tensors, but no quantization description");
        f.expected = "quant_model_description.json";
        f.remedy = "copy it from where the weights came from";
      }
      return;
    }
    if (const std::vector<fs::path> files = description_files(path_); files.size() > 1) {
      Finding& f = error("", "more than one quantization description");
      f.found = files[0].filename().string() + " and " + files[1].filename().string();
      f.remedy = "MindIE refuses it; keep the one that belongs to the weights";
    }
    const fs::path file = path_ / "quant_model_description.json";
    if (!fs::exists(file)) {
      Finding& f = warning("", "no quant_model_description.json");
      f.found = folder_->description()->source;
      f.remedy = "MindIE's runtime and current vLLM-Ascend look for that file";
    }
    if (folder_->int8_kv())
      for (const char* key : {"kv_cache_type", "kv_quant_type"})
        if (const ordered_json& d = folder_->description()->raw; !d.contains(key)) {
          Finding& f = warning("", fmt::format("the description lacks {}", key));
          f.file = folder_->description()->source;
          f.expected = "C8";
          f.remedy = "vLLM-Ascend reads kv_cache_type, MindIE kv_quant_type: write both";
        }
    if (in_config) {
      const ordered_json& dictionary = raw["quantization_config"];
      size_t entries = 0;
      for (const auto& [key, unused] : dictionary.items())
        entries += key.find('.') != std::string::npos;
      if (entries == 0) {
        Finding& f = warning("", "a partial quantization_config");
        f.file = (path_ / "config.json").string();
        f.expected = "an entry for every tensor, or no quantization_config";
        f.remedy = "vLLM-Ascend ends with KeyError; remove it";
      } else if (fs::exists(file)) {
        check_same_description(dictionary, file);
      }
    }
    try {
      if (fs::exists(file)) parse_json(read_text(file), file.string(), 128, /*unique_keys=*/true);
    } catch (const Error& e) {
      error("", e.what());
    }
  }

  void check_same_description(const ordered_json& dictionary, const fs::path& file) {
    const ordered_json other = parse_ordered_json(read_text(file), file.string());
    for (const auto& [key, type] : dictionary.items())
      if (key.find('.') != std::string::npos && (!other.contains(key) || other[key] != type)) {
        Finding& f = error(key, "config.json and quant_model_description.json disagree");
        f.expected = type.dump();
        f.found = other.contains(key) ? other[key].dump() : "no entry";
        f.remedy = "vLLM-Ascend reads the former, MindIE the latter; make them equal";
        return;  // one is enough: they are two different descriptions
      }
  }

  // Tensors that no loader knows, and entries of the description without a tensor.
  void check_names() {
    for (const TensorView* t : folder_->tensors().all()) {
      if (known_.contains(t->name) || t->name.ends_with(".bias") || t->name == "lm_head.weight" ||
          t->name.ends_with("rotary_emb.inv_freq"))
        continue;
      Finding& f = error(t->name, "no loader knows this tensor");
      f.found = describe(*t);
      f.remedy = "vLLM-Ascend ends with KeyError; remove it";
    }
    if (!folder_->quantized()) return;
    for (const auto& [name, type] : folder_->description()->types)
      if (folder_->tensors().find(name) == nullptr && name != "lm_head.weight") {
        Finding& f = error(name, "the description names a tensor that is not stored");
        f.file = folder_->description()->source;
        f.found = type;
      }
    for (const TensorView* t : folder_->tensors().all())
      if (folder_->description()->find(t->name) == nullptr) {
        Finding& f = warning(t->name, "the description does not name this tensor");
        f.file = folder_->description()->source;
        f.found = describe(*t);
      }
  }

  // Weight files that loaders would read beside ours.
  void check_stray_files() {
    std::set<std::string> ours;
    for (const auto& file : folder_->tensors().files())
      ours.insert(file->path().filename().string());
    for (const auto& entry : fs::directory_iterator(path_)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".safetensors") || ours.contains(name)) continue;
      Finding& f = error("", "a weight file that the index does not name");
      f.file = entry.path().string();
      f.remedy = "vLLM loads every *.safetensors file; remove it";
    }
  }

  void check_finite() {
    for (const TensorView* t : folder_->tensors().all()) {
      try {
        t->expect_finite();
      } catch (const Error& e) {
        error(t->name, e.message()).remedy =
            "the checkpoint is damaged; get it or quantize it again";
      }
    }
  }

  void check_config() {
    const fs::path file = path_ / "config.json";
    const ordered_json& raw = folder_->config().raw;
    try {
      parse_json(read_text(file), file.string(), 128, /*unique_keys=*/true);
    } catch (const Error& e) {
      error("", e.what());
    }
    if (!folder_->quantized()) return;
    if (!raw.contains("torch_dtype")) {
      Finding& f = error("", "config.json has no torch_dtype");
      f.file = file.string();
      f.remedy = "MindIE demands it, and it decides how deq_scale is read; add it";
    }
    if (!raw.contains("quantization_config") || !raw["quantization_config"].is_object()) return;
    const ordered_json& dictionary = raw["quantization_config"];
    if (dictionary.contains("quant_method") && dictionary["quant_method"] != "") {
      Finding& f = error("", "quantization_config names another quant_method");
      f.file = file.string();
      f.expected = "no quant_method";
      f.found = dictionary["quant_method"].dump();
      f.remedy = "vLLM-Ascend would not take the checkpoint for its own; remove the key";
    }
  }

  void check_side_files() {
    if (!fs::exists(path_ / "tokenizer.json"))
      warning("", "no tokenizer.json").remedy = "copy the tokenizer's files from the float model";
    if (!folder_->quantized()) return;
    if (fs::exists(path_ / "model.safetensors.index.json"))
      error("", "an index file of the float model").remedy =
          "vLLM would skip the quantized files; remove model.safetensors.index.json";
    const auto mode = fs::status(path_ / "config.json").permissions();
    if ((mode & (fs::perms::group_write | fs::perms::others_all)) != fs::perms::none) {
      Finding& f = warning("", "config.json can be read or written by others");
      f.file = (path_ / "config.json").string();
      f.expected = "mode 640 or stricter";
      f.found = fmt::format("{:o}", static_cast<unsigned>(mode));
      f.remedy = "MindIE refuses it: chmod 640";
    }
  }

  fs::path path_;
  std::optional<ModelFolder> folder_;
  std::set<std::string> known_;
  std::vector<std::string> per_token_;  // weights of W8A8_DYNAMIC and W8A8_MIX
  std::vector<Finding> findings_;
};

}  // namespace

std::vector<Finding> check_folder(const fs::path& folder) { return Checker(folder).run(); }

}  // namespace octet
