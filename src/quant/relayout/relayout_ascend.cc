// Any layout to those of Ascend's tools.
#include <bit>

#include "src/base/error.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/quant/output/export.h"
#include "src/quant/relayout/relayout_plan.h"

namespace octet {
namespace {

constexpr const char* kFloat = "FLOAT";

// float32 as the bits in an int64.
std::vector<std::byte> as_int64(const std::vector<float>& values) {
  std::vector<int64_t> bits;
  for (float v : values) bits.push_back(std::bit_cast<int32_t>(v));
  return bytes_of(bits);
}

bool all_zero(const TensorView& t) {
  for (float v : t.floats())
    if (v != 0) return false;
  return true;
}

class AscendPlan {
 public:
  AscendPlan(const QuantizedSource& source, Layout to)
      : source_(source),
        config_(source.config()),
        to_(to),
        type_(word(ExportLayout{config_, source.schemes()}.model_type())),
        float_type_(stores_float32(to) ? DType::kF32 : config_.dtype),
        quantized_type_(to == Layout::kMsmodelslimV1 ? DType::kF32 : float_type_),
        build_(source, plan_) {}

  LayoutPlan run() {
    plan_.stem = weights_stem(to_, type_);
    plan_.metadata = !stores_float32(to_);
    pass_float("model.embed_tokens.weight");
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      for (LinearKind kind : kLinearKinds) {
        const std::string name = linear_name(layer, kind);
        const LinearShape shape = linear_shape(config_, kind);
        for (const char* part : {".kv_cache_scale", ".kv_cache_offset"})
          if (const TensorView* t = source_.find(name + part)) build_.pass(t->name, *t, "C8");
        add_linear(name, shape);
      }
      add_norm(layer_prefix(layer) + "input_layernorm");
      add_norm(layer_prefix(layer) + "post_attention_layernorm");
    }
    add_norm("model.norm");
    const bool untied = add_head();
    build_.refuse_rest();
    finish(untied);
    return std::move(plan_);
  }

 private:
  std::string word(Scheme scheme) const {
    const bool mix_as_static = to_ == Layout::kMindie && scheme == Scheme::kW8A8Mix;
    return scheme_name(mix_as_static ? Scheme::kW8A8 : scheme);
  }

  void pass_float(const std::string& name) {
    build_.pass_float(name, source_.tensors().get(name), float_type_);
  }

  void add_norm(const std::string& prefix) {
    for (const char* part : {".weight", ".bias"}) {
      const std::string name = prefix + part, wrapped = prefix + ".module" + part;
      const TensorView* t = source_.find(name);
      if (t == nullptr) t = source_.find(wrapped);
      build_.use(wrapped);
      if (t == nullptr && std::string(part) == ".bias") return;
      if (t == nullptr) t = &source_.tensors().get(name);
      build_.pass_float(name, *t, float_type_);
    }
    if (to_ != Layout::kMindie) return;
    const size_t first = plan_.tensors.size() - 2;  // that layout has norms with a bias twice
    for (size_t i : {first, first + 1}) {
      const PlannedTensor t = plan_.tensors[i];
      const std::string part = i == first ? ".module.weight" : ".module.bias";
      build_.add(prefix + part, t.spec.dtype, t.spec.shape, type_, t.make);
    }
  }

  void add_linear(const std::string& name, const LinearShape& s) {
    const Scheme scheme = source_.scheme(name);
    const TensorView* bias = source_.find(name + ".bias");
    if (scheme == Scheme::kFloat) {
      pass_float(name + ".weight");
      return add_bias(s, bias, float_type_);
    }
    const std::string type = word(scheme);
    build_.pass(name + ".weight", source_.tensors().get(name + ".weight"), type);
    if (s.bias || scheme != Scheme::kW8A8) {
      add_bias(s, bias, quantized_type_);
    } else if (bias != nullptr) {
      build_.use(bias->name);  // it is in quant_bias
    }
    for (const char* part : {".input_scale", ".input_offset", ".input_zero_point", ".deq_scale",
                             ".quant_bias", ".weight_scale", ".weight_offset"})
      build_.use(name + part);
    if (scheme != Scheme::kW8A8 || stores_spare_scales(to_))
      add_weight_scale(name, s, scheme, type);
    if (has_static_input(scheme)) add_static(name, s, type);
  }

  void add_bias(const LinearShape& s, const TensorView* bias, DType dtype) {
    if (bias == nullptr) return;
    if (s.bias) return build_.pass_float(bias->name, *bias, dtype);
    build_.use(bias->name);
    if (!all_zero(*bias))
      throw Error("a linear has a bias that its architecture does not")
          .file(bias->file->path().string())
          .tensor(bias->name)
          .expected("zeros, or a static W8A8 linear, whose bias is in quant_bias");
  }

  void add_weight_scale(const std::string& name, const LinearShape& s, Scheme scheme,
                        const std::string& type) {
    const TensorView* scale = source_.find(name + ".weight_scale");
    if (scale != nullptr && scale->shape == Shape{s.n, 1}) {
      build_.pass(scale->name, *scale, type);
    } else {
      build_.add(
          name + ".weight_scale", DType::kF32, {s.n, 1}, type, [this_ = &source_, name, s, scheme] {
            return encode(has_static_input(scheme) ? this_->static_linear(name, s).weight_scale
                                                   : weight_scales(this_->folder(), name, s.n),
                          DType::kF32);
          });
    }
    if (const TensorView* offset = source_.find(name + ".weight_offset"))
      build_.pass(offset->name, *offset, type);
    else
      build_.add_zeros(name + ".weight_offset", DType::kF32, {s.n, 1}, type);
  }

  void add_static(const std::string& name, const LinearShape& s, const std::string& type) {
    const TensorView& scale = source_.tensors().get(name + ".input_scale");
    const DType stored = source_.tensors().get(name + ".input_scale").dtype;
    // The scale as it is where 16 bits would round it; the offset fits any type.
    const DType dtype = round_to(scale.floats()[0], quantized_type_) == scale.floats()[0]
                            ? quantized_type_
                            : stored;
    const QuantizedSource* source = &source_;
    build_.add(name + ".input_scale", dtype, {1}, type,
               [&scale, dtype] { return encode(scale.floats(), dtype); });
    build_.add(name + ".input_offset", dtype, {1}, type, [source, name, s, dtype] {
      return encode(std::vector<float>{source->static_linear(name, s).input.offset}, dtype);
    });
    build_.add(name + ".quant_bias", DType::kI32, {s.n}, type,
               [source, name, s] { return bytes_of(source->static_linear(name, s).quant_bias); });
    const bool bf16 = config_.dtype == DType::kBF16;
    build_.add(name + ".deq_scale", bf16 ? DType::kF32 : DType::kI64, {s.n}, type,
               [source, name, s, bf16] {
                 const std::vector<float> d = source->static_linear(name, s).deq_scale;
                 return bf16 ? encode(d, DType::kF32) : as_int64(d);
               });
  }

  // Returns whether a tied head has become a tensor of its own.
  bool add_head() {
    if (source_.find("lm_head.weight") != nullptr) {
      add_linear("lm_head", head_shape(config_));
    } else if (stores_float32(to_)) {  // the tool stores tied heads, too
      build_.pass_float("lm_head.weight", source_.tensors().get("model.embed_tokens.weight"),
                        float_type_);
    }
    return source_.scheme("lm_head") != Scheme::kFloat;
  }

  void finish(bool untied) {
    TensorTypes types;
    bool head = false;
    for (const PlannedTensor& t : plan_.tensors) {
      types.emplace_back(t.spec.name, t.type);
      head = head || t.spec.name == "lm_head.weight";
    }
    if (!head) types.emplace_back("lm_head.weight", kFloat);
    const ordered_json description = make_description(to_, type_, source_.int8_kv(), types);
    plan_.description_name = description_name(to_, type_);
    plan_.description = description_text(to_, description);
    ordered_json c = source_.plain_config();
    if (!c.contains("torch_dtype")) c["torch_dtype"] = config_dtype_name(config_.dtype);
    if (untied && config_.tie_word_embeddings) c["tie_word_embeddings"] = false;
    if (to_ == Layout::kOctet) {
      c["quantize"] = type_suffix(type_);
      c["quantization_config"] = description;
    } else if (to_ == Layout::kMindie) {
      const ordered_json none = nullptr;
      c["quantize"] = type_suffix(type_);
      c["quantization_config"] = {{"group_size", 0},
                                  {"kv_quant_type", source_.int8_kv() ? ordered_json("C8") : none},
                                  {"fa_quant_type", none}};
      for (const auto& [name, scheme] : source_.schemes())
        if (scheme == Scheme::kW8A8Mix) c["quantization_config"]["pdmix"] = true;
    }
    plan_.config = c.dump(4);
  }

  const QuantizedSource& source_;
  const ModelConfig& config_;
  Layout to_;
  std::string type_;
  DType float_type_, quantized_type_;
  LayoutPlan plan_;
  PlanBuilder build_;
};

}  // namespace

LayoutPlan plan_ascend(const QuantizedSource& source, Layout to) {
  return AscendPlan(source, to).run();
}

}  // namespace octet
