#include "src/quant/relayout_source.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/checkpoint/quant_tensors.h"

namespace octet {
namespace {

constexpr const char* kCompressed = "compressed-tensors";

// A field of compressed-tensors' dictionary that must have one of a few values.
class Fields {
 public:
  Fields(const ordered_json& object, std::string where, std::string path)
      : object_(object), where_(std::move(where)), path_(std::move(path)) {
    if (!object_.is_object()) throw wrong("", "an object", object_.dump());
  }
  // Absent and null are `fallback`.
  ordered_json get(const char* name, const ordered_json& fallback) const {
    const auto it = object_.find(name);
    return it == object_.end() || it->is_null() ? fallback : *it;
  }
  void need(const char* name, const ordered_json& fallback, const std::vector<ordered_json>& any,
            const char* expected) const {
    const ordered_json value = get(name, fallback);
    if (std::find(any.begin(), any.end(), value) == any.end())
      throw wrong(name, expected, value.dump());
  }
  Error wrong(const std::string& name, const std::string& expected,
              const std::string& found) const {
    return Error("this compressed-tensors checkpoint is not supported")
        .file(where_)
        .field(path_ + (name.empty() ? "" : "." + name))
        .expected(expected)
        .found(found);
  }

 private:
  const ordered_json& object_;
  std::string where_, path_;
};

// int8 weights per channel or tensor, int8 inputs per tensor or per token: W8A8 of llm-compressor.
void check_group(const ordered_json& group, const std::string& where, const std::string& path) {
  const Fields g(group, where, path);
  const ordered_json weights = g.get("weights", nullptr);
  const ordered_json inputs = g.get("input_activations", nullptr);
  const Fields w(weights, where, path + ".weights");
  w.need("num_bits", 8, {8}, "8");
  w.need("type", "int", {"int"}, "int");
  w.need("symmetric", true, {true}, "true");
  w.need("dynamic", false, {false}, "false");
  w.need("strategy", "tensor", {"channel", "tensor"}, "channel or tensor");
  if (inputs.is_null())
    throw g.wrong("input_activations", "int8 inputs: W8A8", "none (weights only)");
  const Fields a(inputs, where, path + ".input_activations");
  a.need("num_bits", 8, {8}, "8");
  a.need("type", "int", {"int"}, "int");
  if (a.get("dynamic", false) == true) {
    a.need("strategy", "token", {"token"}, "token, for dynamic scales");
    a.need("symmetric", true, {true}, "true, for dynamic scales");
  } else {
    a.need("dynamic", false, {false}, "true or false");
    a.need("strategy", "tensor", {"tensor"}, "tensor, for static scales");
  }
  g.need("output_activations", nullptr, {nullptr}, "nothing");
}

std::vector<int64_t> row_sums(const TensorView& weight, const LinearShape& s) {
  std::vector<int64_t> sums(s.n);
  const auto* q = reinterpret_cast<const int8_t*>(weight.data.data());
  for (uint64_t j = 0; j < s.n; ++j)
    for (uint64_t i = 0; i < s.k; ++i) sums[j] += q[j * s.k + i];
  return sums;
}

// The scale w for which input * w is `deq`, or the nearest to it.
float weight_scale_of(float deq, float input) {
  const float w = deq / input;
  for (float v : {w, std::nextafter(w, 0.0f), std::nextafter(w, INFINITY)})
    if (input * v == deq) return v;
  return w;
}

}  // namespace

std::vector<int64_t> StaticLinear::bias_levels() const {
  std::vector<int64_t> levels(quant_bias.size());
  for (size_t j = 0; j < levels.size(); ++j)
    levels[j] = quant_bias[j] + static_cast<int64_t>(input.offset) * row_sum[j];
  return levels;
}

std::vector<std::pair<std::string, LinearShape>> linears_of(const ModelConfig& config) {
  std::vector<std::pair<std::string, LinearShape>> all;
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (LinearKind kind : kLinearKinds)
      all.emplace_back(linear_name(layer, kind), linear_shape(config, kind));
  all.emplace_back("lm_head", LinearShape{static_cast<uint64_t>(config.vocab_size),
                                          static_cast<uint64_t>(config.hidden_size), false});
  return all;
}

QuantizedSource::QuantizedSource(const fs::path& folder) : path_(folder) {
  const fs::path file = folder / "config.json";
  if (!fs::exists(file)) throw Error("the model folder has no config.json").file(folder.string());
  const ordered_json raw = parse_ordered_json(read_text(file), file.string());
  const auto dictionary = raw.find("quantization_config");
  if (dictionary != raw.end() && dictionary->is_object() &&
      dictionary->value("quant_method", ordered_json()) == kCompressed) {
    open_compressed_tensors(raw);
    return;
  }
  folder_.emplace(folder);
  if (!folder_->quantized())
    throw usage_error(
        "a float checkpoint has no other layout; octet quantize makes a quantized "
        "one")
        .file(folder.string());
  config_ = folder_->config();
  const fs::path description = description_file();
  const bool pdmix = dictionary != raw.end() && dictionary->is_object() &&
                     dictionary->value("pdmix", ordered_json()) == true;
  if (!description.empty() && description.filename() != "quant_model_description.json") {
    layout_ = Layout::kMindie;
  } else if (!tensors().files().empty() &&
             tensors().files()[0]->path().filename().string().starts_with("quant_model_weights")) {
    layout_ = Layout::kMsmodelslimV1;
  } else {
    layout_ = raw.contains("quantization_config") ? Layout::kOctet : Layout::kMsmodelslim;
  }
  for (const auto& [name, shape] : linears_of(config_)) {
    Scheme scheme = folder_->scheme(name);
    if (pdmix && scheme == Scheme::kW8A8) scheme = Scheme::kW8A8Mix;  // no word for it there
    schemes_[name] = scheme;
    if (scheme != Scheme::kFloat) {
      tensors().get(name + ".weight").expect(DType::kI8, {shape.n, shape.k});
      expect_quant_tensors(*folder_, name, quant_tensors(scheme), shape.n);
    }
  }
}

void QuantizedSource::open_compressed_tensors(const ordered_json& raw) {
  layout_ = Layout::kCompressedTensors;
  const std::string where = (path_ / "config.json").string();
  const ordered_json& dictionary = raw["quantization_config"];
  const Fields d(dictionary, where, "quantization_config");
  d.need("format", "int-quantized", {"int-quantized", "naive-quantized"}, "int-quantized");
  d.need("kv_cache_scheme", nullptr, {nullptr}, "nothing");
  const ordered_json groups = d.get("config_groups", ordered_json::object());
  if (!groups.is_object() || groups.empty())
    throw d.wrong("config_groups", "one group or more", groups.dump());
  for (const auto& [name, group] : groups.items())
    check_group(group, where, "quantization_config.config_groups." + name);
  ordered_json plain = raw;
  plain["mlp_bias"] = false;  // such biases become part of quant_bias
  config_ = ModelConfig::parse(plain, where);
  config_.raw = raw;
  tensors_ = std::make_unique<TensorStore>(path_);
  for (const auto& [name, shape] : linears_of(config_)) {
    const TensorView* weight = find(name + ".weight");
    if (weight == nullptr && name == "lm_head" && config_.tie_word_embeddings) {
      schemes_[name] = Scheme::kFloat;
      continue;
    }
    tensors().get(name + ".weight").expect_shape({shape.n, shape.k});
    const bool quantized = weight->dtype == DType::kI8;
    schemes_[name] = !quantized                               ? Scheme::kFloat
                     : find(name + ".input_scale") == nullptr ? Scheme::kW8A8Dynamic
                                                              : Scheme::kW8A8;
    if (quantized) check_linear(name, shape);
  }
}

// The tensors of a linear of compressed-tensors.
void QuantizedSource::check_linear(const std::string& name, const LinearShape& shape) const {
  const auto check = [&](const char* part, const QuantTensor& rule, uint64_t n) {
    const TensorView& t = tensors().get(name + part);
    if (const auto problem = problem_of(t, rule, n))
      throw Error(problem->problem)
          .file(t.file->path().string())
          .tensor(t.name)
          .expected(problem->expected)
          .found(problem->found);
  };
  using Q = QuantTensor;
  const TensorView& scale = tensors().get(name + ".weight_scale");
  const Q::Form form = scale.elements() == 1     ? Q::Form::kOne
                       : scale.shape.size() == 1 ? Q::Form::kRow
                                                 : Q::Form::kColumn;
  check(".weight_scale", {"", form, Q::Type::kFloat, Q::Values::kPositive, true}, shape.n);
  if (scheme(name) != Scheme::kW8A8) return;
  check(".input_scale", {"", Q::Form::kOne, Q::Type::kFloat, Q::Values::kPositive, true}, 1);
  if (const TensorView* zero = find(name + ".input_zero_point"))
    if (zero->elements() != 1 || (zero->dtype != DType::kI8 && zero->dtype != DType::kI32))
      throw Error("wrong shape or dtype")
          .file(zero->file->path().string())
          .tensor(zero->name)
          .expected("one I8 or I32")
          .found(std::string(dtype_name(zero->dtype)) + " " + shape_string(zero->shape));
}

const TensorStore& QuantizedSource::tensors() const {
  return folder_ ? folder_->tensors() : *tensors_;
}

std::vector<float> QuantizedSource::weight_scale(const std::string& name, uint64_t n) const {
  std::vector<float> scale = tensors().get(name + ".weight_scale").floats();
  if (scale.size() == 1) scale.resize(n, scale[0]);  // one for the whole tensor
  return scale;
}

StaticLinear QuantizedSource::static_linear(const std::string& name, const LinearShape& s) const {
  StaticLinear l;
  const TensorView& weight = tensors().get(name + ".weight");
  l.row_sum = row_sums(weight, s);
  l.input.scale = quant_values(tensors().get(name + ".input_scale"))[0];
  if (layout_ == Layout::kCompressedTensors) {
    if (const TensorView* zero = find(name + ".input_zero_point"))
      l.input.offset = zero->dtype == DType::kI8 ? static_cast<float>(zero->values<int8_t>()[0])
                                                 : static_cast<float>(zero->values<int32_t>()[0]);
    RoundedWeight w;
    w.scale = weight_scale(name, s.n);
    w.sum = l.row_sum;
    const TensorView* bias = find(name + ".bias");
    l.deq_scale = octet::deq_scale(w, l.input);
    l.quant_bias = octet::quant_bias(
        name, w, l.input, bias == nullptr ? std::vector<float>() : bias->floats(), false);
    l.weight_scale = std::move(w.scale);
    return l;
  }
  l.input.offset = quant_values(tensors().get(name + ".input_offset"))[0];
  l.deq_scale = quant_values(tensors().get(name + ".deq_scale"));
  l.quant_bias = tensors().get(name + ".quant_bias").values<int32_t>();
  if (find(name + ".weight_scale") != nullptr) l.weight_scale = weight_scale(name, s.n);
  l.weight_scale.resize(s.n);
  for (size_t j = 0; j < s.n; ++j)  // deq_scale is what loaders compute with
    if (l.input.scale * l.weight_scale[j] != l.deq_scale[j])
      l.weight_scale[j] = weight_scale_of(l.deq_scale[j], l.input.scale);
  return l;
}

ordered_json QuantizedSource::plain_config() const {
  ordered_json c = config_.raw;
  c.erase("quantization_config");
  c.erase("quantize");
  return c;
}

fs::path QuantizedSource::description_file() const {
  const std::vector<fs::path> files = description_files(path_);
  return files.empty() ? fs::path() : files[0];
}

}  // namespace octet
