// Ascend's layouts to compressed-tensors ("int-quantized"), as vLLM and transformers read it.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/checkpoint/scheme.h"
#include "src/quant/relayout/relayout_plan.h"

namespace octet {
namespace {

constexpr int64_t kExactLevels = int64_t{1} << 23;  // times a float32, they come back exactly

BiasGroup group_of(const std::string& name) {
  const LinearRow* row = find_linear_row(name);
  return row == nullptr ? BiasGroup::kNone : row->bias;
}

// Where a static linear's bias comes from.
enum class BiasSource { kNone, kStored, kLevels };

class CompressedPlan {
 public:
  explicit CompressedPlan(const QuantizedSource& source)
      : source_(source), config_(source.config()), build_(source, plan_) {}

  LayoutPlan run() {
    refuse_types();
    choose_biases();
    plan_.stem = weights_stem(Layout::kCompressedTensors, "");
    copy(kEmbeddingWeight);
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      for (const LayerLinear& l : layer_linears(config_, layer)) add_linear(l.full_name, l.shape);
      for (const LayerNorm& norm : layer_norms(config_, layer)) add_norm(norm.full_name);
    }
    add_norm(kFinalNorm);
    if (source_.find(kHeadWeight) != nullptr) copy(kHeadWeight);
    build_.refuse_unused();
    plan_.config = config().dump(4);
    return std::move(plan_);
  }

 private:
  Error cannot(const std::string& what) const {
    return Error("compressed-tensors cannot hold this: " + what, ErrorKind::kUsage)
        .file(source_.path().string());
  }

  void refuse_types() {
    if (source_.int8_kv())
      throw cannot("a static int8 KV cache (C8)").remedy("quantize without --use_kvcache_quant");
    for (const auto& [name, scheme] : source_.schemes()) {
      if (const char* why = scheme_row(scheme).not_in_compressed_tensors)
        throw cannot(why).tensor(name + ".weight").remedy("quantize to W8A8 or W8A8_DYNAMIC");
      if (name == kHead && is_quantized(scheme))
        throw cannot("a quantized head, which vLLM does not load")
            .tensor(kHeadWeight)
            .remedy("quantize with --disable_last_linear True");
      any_static_ = any_static_ || is_static(scheme);
      any_dynamic_ = any_dynamic_ || scales_per_token(scheme);
    }
  }

  // What the bias of every static linear is, and which linears need one for it.
  void choose_biases() {
    for (const auto& [name, shape, rows, columns] : linears_of(config_)) {
      const TensorView* stored = source_.find(name + ".bias");
      if (!is_static(source_.scheme(name))) {
        // One that the class does not have is nobody's.
        biases_[name] = stored == nullptr || !shape.bias ? BiasSource::kNone : BiasSource::kStored;
        continue;
      }
      const StaticLinear l = source_.static_linear(name, shape);
      symmetric_ = symmetric_ && l.input.offset == 0;
      const std::vector<int64_t> levels = l.bias_levels();
      const bool any = std::any_of(levels.begin(), levels.end(), [](int64_t v) { return v != 0; });
      biases_[name] = stored != nullptr && is_bias_of(stored->floats(), l, levels)
                          ? BiasSource::kStored
                      : any ? BiasSource::kLevels
                            : BiasSource::kNone;
      for (int64_t v : levels)
        if (std::abs(v) >= kExactLevels && biases_[name] == BiasSource::kLevels) ++inexact_;
      if (any && !shape.bias) extra_[group_of(name)] = true;
    }
    const Architecture& a = architecture(config_.family);
    if (!a.extra_biases &&
        (extra_[BiasGroup::kQkv] || extra_[BiasGroup::kO] || extra_[BiasGroup::kMlp]))
      throw cannot(
          fmt::format("biases that {}'s model classes do not have (of o and the MLP), or have only "
                      "together: quant_bias holds corrections there",
                      a.models))
          .remedy("quantize without a step correct_bias, or to W8A8_DYNAMIC");
    if (a.attention_bias && (extra_[BiasGroup::kQkv] || extra_[BiasGroup::kO]))
      extra_[BiasGroup::kQkv] = extra_[BiasGroup::kO] = true;  // one switch: attention_bias
    const bool lacks_o = !a.attention_bias && extra_[BiasGroup::kO];
    const bool lacks_mlp = !a.mlp_bias && extra_[BiasGroup::kMlp];
    if (!lacks_o && !lacks_mlp) return;
    extra_[BiasGroup::kO] = as_llama_ = true;
  }

  // Whether rounding the float bias gives quant_bias: in double, or in float32 as the tool does.
  static bool is_bias_of(const std::vector<float>& bias, const StaticLinear& l,
                         const std::vector<int64_t>& levels) {
    for (size_t j = 0; j < bias.size(); ++j) {
      const double d = std::nearbyint(double{bias[j]} / double{l.deq_scale[j]});
      const float f = std::nearbyint(bias[j] / l.deq_scale[j] -
                                     static_cast<float>(l.row_sum[j]) * l.input.offset);
      if (d != static_cast<double>(levels[j]) && f != static_cast<float>(l.quant_bias[j]))
        return false;
    }
    return true;
  }

  void copy(const std::string& name) { build_.copy(name, source_.tensors().get(name), ""); }

  void add_linear(const std::string& name, const LinearShape& s) {
    const Scheme scheme = source_.scheme(name);
    copy(name + ".weight");
    add_bias(name, s);
    for (const char* part :
         {suffix::kWeightOffset, suffix::kQuantBias, suffix::kDeqScale, suffix::kInputOffset})
      build_.mark_used(name + part);  // of the other form, or zeros
    if (!is_quantized(scheme)) return;
    const TensorView* scale = source_.find(name + suffix::kWeightScale);
    if (scales_per_token(scheme)) return build_.copy(scale->name, *scale, "");
    build_.mark_used(name + suffix::kWeightScale);
    const QuantizedSource* source = &source_;
    build_.make(name + suffix::kWeightScale, DType::kF32, {s.n, 1}, "", [source, name, s] {
      return encode(source->static_linear(name, s).weight_scale, DType::kF32);
    });
    const TensorView& input = source_.tensors().get(name + suffix::kInputScale);
    build_.mark_used(input.name);
    build_.make(name + suffix::kInputScale, input.dtype, {1}, "",
                [&input] { return bytes_of(input.data); });
    if (symmetric_) return;
    build_.make(name + suffix::kInputZeroPoint, DType::kI8, {1}, "", [source, name, s] {
      const auto zero = static_cast<int8_t>(source->static_linear(name, s).input.offset);
      return bytes_of(std::as_bytes(std::span(&zero, 1)));
    });
  }

  void add_bias(const std::string& name, const LinearShape& s) {
    build_.mark_used(name + ".bias");
    const auto extra = extra_.find(group_of(name));
    const bool needed = s.bias || (extra != extra_.end() && extra->second);
    if (!needed) return;
    switch (biases_.at(name)) {
      case BiasSource::kStored:
        return build_.copy(name + ".bias", source_.tensors().get(name + ".bias"), "");
      case BiasSource::kLevels: {
        const QuantizedSource* source = &source_;
        // In float32, so that the whole number of levels can be told from it again.
        return build_.make(name + ".bias", DType::kF32, {s.n}, "", [source, name, s] {
          const StaticLinear l = source->static_linear(name, s);
          const std::vector<int64_t> levels = l.bias_levels();
          std::vector<float> bias(levels.size());
          for (size_t j = 0; j < bias.size(); ++j)
            bias[j] = static_cast<float>(static_cast<double>(levels[j]) * double{l.deq_scale[j]});
          return encode(bias, DType::kF32);
        });
      }
      case BiasSource::kNone:
        return build_.make_zeros(name + ".bias", config_.dtype, {s.n}, "");
    }
  }

  void add_norm(const std::string& prefix) {
    const TensorView* weight = source_.find(prefix + ".weight");
    if (weight == nullptr) weight = &source_.tensors().get(prefix + ".module.weight");
    build_.copy(prefix + ".weight", *weight, "");
    for (const char* part : {".module.weight", ".module.bias", ".bias"}) {
      const TensorView* t = source_.find(prefix + part);
      build_.mark_used(prefix + part);
      if (t == nullptr || std::string(part) == ".module.weight") continue;
      for (float v : t->floats())
        if (v != 0) throw cannot("a norm with a bias").tensor(t->name);
    }
  }

  ordered_json config() {
    ordered_json c = source_.plain_config();
    const bool attention = extra_[BiasGroup::kQkv] || extra_[BiasGroup::kO];
    const bool mlp = extra_[BiasGroup::kMlp];
    if (as_llama_) {
      const Architecture& llama = architecture(Family::kLlama);
      c["architectures"] = {llama.class_name};
      c["model_type"] = llama.model_type;
      for (const char* key : {"use_sliding_window", "sliding_window", "max_window_layers"})
        c.erase(key);
      plan_.notes.push_back(fmt::format(
          "written as {}, which computes the same: quant_bias holds corrections for linears that "
          "have no bias in {}'s model classes",
          llama.class_name, architecture(config_.family).models));
    }
    if (attention || as_llama_) c["attention_bias"] = true;
    if (mlp || as_llama_) c["mlp_bias"] = mlp;
    if (!as_llama_ && (attention || mlp))
      plan_.notes.push_back(fmt::format(
          "config.json has {} true: quant_bias holds corrections for linears without a bias",
          attention && mlp ? "attention_bias and mlp_bias"
                           : (attention ? "attention_bias" : "mlp_bias")));
    if (inexact_ > 0)
      plan_.notes.push_back(fmt::format(
          "{} biases have more than 23 bits: vLLM adds them rounded to float32", inexact_));
    c["quantization_config"] = dictionary();
    return c;
  }

  ordered_json dictionary() const {
    ordered_json groups = ordered_json::object();
    ordered_json ignore = ordered_json::array();
    const auto add_group = [&](Scheme scheme, const ordered_json& inputs) {
      ordered_json targets = ordered_json::array();
      for (const NamedLinear& l : linears_of(config_))
        if (source_.scheme(l.name) == scheme) targets.push_back(l.name);
      if (!(any_static_ && any_dynamic_)) targets = {"Linear"};
      groups[fmt::format("group_{}", groups.size())] = {{"targets", targets},
                                                        {"weights", weights()},
                                                        {"input_activations", inputs},
                                                        {"output_activations", nullptr}};
    };
    for (const SchemeRow& row : scheme_rows())
      if (row.static_input ? any_static_ && !row.per_token : any_dynamic_ && row.per_token)
        add_group(row.scheme, row.static_input ? arguments("tensor", symmetric_, false)
                                               : arguments("token", true, true));
    for (const NamedLinear& l : linears_of(config_))
      if (!is_quantized(source_.scheme(l.name))) ignore.push_back(l.name);
    return {{"quant_method", "compressed-tensors"},
            {"format", "int-quantized"},
            {"quantization_status", "compressed"},
            {"config_groups", groups},
            {"ignore", ignore},
            {"kv_cache_scheme", nullptr}};
  }
  static ordered_json weights() { return arguments("channel", true, false); }
  static ordered_json arguments(const char* strategy, bool symmetric, bool dynamic) {
    return {{"num_bits", 8},
            {"type", "int"},
            {"symmetric", symmetric},
            {"strategy", strategy},
            {"dynamic", dynamic}};
  }

  const QuantizedSource& source_;
  const ModelConfig& config_;
  LayoutPlan plan_;
  PlanBuilder build_;
  std::map<std::string, BiasSource> biases_;
  std::map<BiasGroup, bool> extra_;  // biases that the architecture does not have
  bool any_static_ = false, any_dynamic_ = false, as_llama_ = false;
  bool symmetric_ = true;  // every static input
  size_t inexact_ = 0;
};

}  // namespace

LayoutPlan plan_compressed_tensors(const QuantizedSource& source) {
  return CompressedPlan(source).run();
}

}  // namespace octet
