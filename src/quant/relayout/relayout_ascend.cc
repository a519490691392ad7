// Any layout to those of Ascend's tools.
#include "src/base/error.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/scheme.h"
#include "src/quant/relayout/relayout_plan.h"

namespace octet {
namespace {

using Role = QuantTensor::Role;

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
        type_(scheme_word(highest(source.schemes()), to)),
        stored_(stored_types(to, config_.dtype)),
        build_(source, plan_) {}

  LayoutPlan run() {
    plan_.stem = weights_stem(to_, type_);
    plan_.metadata = !is_msmodelslim_v0(to_);
    copy_float(kEmbeddingWeight);
    for (int64_t layer = 0; layer < config_.layers; ++layer) {
      for (const LayerLinear& l : layer_linears(config_, layer)) {
        for (const QuantTensor& part : kv_cache_tensors())
          if (const TensorView* t = source_.find(l.full_name + part.suffix))
            build_.copy(t->name, *t, kKvCacheWord);
        add_linear(l.full_name, l.shape);
      }
      for (const LayerNorm& norm : layer_norms(config_, layer)) add_norm(norm.full_name);
    }
    add_norm(kFinalNorm);
    const bool untied = add_head();
    build_.refuse_unused();
    finish(untied);
    return std::move(plan_);
  }

 private:
  void copy_float(const std::string& name) {
    build_.copy_float(name, source_.tensors().get(name), stored_.floats);
  }

  void add_norm(const std::string& prefix) {
    for (const char* part : {".weight", ".bias"}) {
      const std::string name = prefix + part, wrapped = prefix + ".module" + part;
      const TensorView* t = source_.find(name);
      if (t == nullptr) t = source_.find(wrapped);
      build_.mark_used(wrapped);
      if (t == nullptr && std::string(part) == ".bias") return;
      if (t == nullptr) t = &source_.tensors().get(name);
      build_.copy_float(name, *t, stored_.floats);
    }
    if (to_ != Layout::kMindie) return;
    const size_t first = plan_.tensors.size() - 2;  // that layout has norms with a bias twice
    for (size_t i : {first, first + 1}) {
      const PlannedTensor t = plan_.tensors[i];
      const std::string part = i == first ? ".module.weight" : ".module.bias";
      build_.make(prefix + part, t.spec.dtype, t.spec.shape, type_, t.make);
    }
  }

  void add_linear(const std::string& name, const LinearShape& s) {
    const Scheme scheme = source_.scheme(name);
    const TensorView* bias = source_.find(name + ".bias");
    if (!is_quantized(scheme)) {
      copy_float(name + ".weight");
      return add_bias(s, bias, stored_.floats);
    }
    const std::string type = scheme_word(scheme, to_);
    build_.copy(name + ".weight", source_.tensors().get(name + ".weight"), type);
    if (s.bias || !is_static(scheme)) {
      add_bias(s, bias, stored_.linears);
    } else if (bias != nullptr) {
      build_.mark_used(bias->name);  // it is in quant_bias
    }
    for (const SchemeRow& row : scheme_rows())
      for (const auto& parts : {row.tensors, row.compressed_tensors})
        for (const QuantTensor& part : parts) build_.mark_used(name + part.suffix);
    for (const QuantTensor& part : scheme_row(scheme).tensors)
      if (!part.spare || stores_spare_scales(to_)) add_part(name, s, part, type);
  }

  void add_bias(const LinearShape& s, const TensorView* bias, DType dtype) {
    if (bias == nullptr) return;
    if (s.bias) return build_.copy_float(bias->name, *bias, dtype);
    build_.mark_used(bias->name);
    if (!all_zero(*bias))
      throw Error("a linear has a bias that its architecture does not")
          .file(bias->file->path().string())
          .tensor(bias->name)
          .expected("zeros, or a static W8A8 linear, whose bias is in quant_bias");
  }

  void add_part(const std::string& name, const LinearShape& s, const QuantTensor& part,
                const std::string& type) {
    const QuantizedSource* source = &source_;
    const std::string full = name + part.suffix;
    const Shape shape = part.shape(s.n);
    DType dtype = part.stored_as(stored_);
    switch (part.role) {
      case Role::kWeightScale: {
        const TensorView* scale = source_.find(full);
        if (scale != nullptr && scale->shape == shape) return build_.copy(full, *scale, type);
        const bool from_static = has_static_input(source_.scheme(name));
        return build_.make(full, dtype, shape, type, [source, name, s, dtype, from_static] {
          return encode(from_static ? source->static_linear(name, s).weight_scale
                                    : weight_scales(source->folder(), name, s.n),
                        dtype);
        });
      }
      case Role::kWeightOffset:
        if (const TensorView* offset = source_.find(full)) return build_.copy(full, *offset, type);
        return build_.make_zeros(full, dtype, shape, type);
      case Role::kInputScale: {
        const TensorView& scale = source_.tensors().get(full);
        dtype = input_type(scale);
        return build_.make(full, dtype, shape, type,
                           [&scale, dtype] { return encode(scale.floats(), dtype); });
      }
      case Role::kInputOffset:
        dtype = input_type(source_.tensors().get(name + suffix::kInputScale));
        return build_.make(full, dtype, shape, type, [source, name, s, dtype] {
          return encode(std::vector<float>{source->static_linear(name, s).input.offset}, dtype);
        });
      case Role::kQuantBias:
        return build_.make(full, dtype, shape, type, [source, name, s] {
          return bytes_of(source->static_linear(name, s).quant_bias);
        });
      case Role::kDeqScale:
        return build_.make(full, dtype, shape, type, [source, name, s, dtype] {
          return encode_deq_scale(source->static_linear(name, s).deq_scale, dtype);
        });
      case Role::kKvScale:
      case Role::kKvOffset:
        break;
    }
    OCTET_CHECK(false);
  }

  // The input scale's: as it is where 16 bits would round it; the offset fits any type.
  DType input_type(const TensorView& scale) const {
    const float value = scale.floats()[0];
    return round_to(value, stored_.linears) == value ? stored_.linears : scale.dtype;
  }

  // Returns whether a tied head has become a tensor of its own.
  bool add_head() {
    if (source_.find(kHeadWeight) != nullptr) {
      add_linear(kHead, head_shape(config_));
    } else if (is_msmodelslim_v0(to_)) {  // the tool stores tied heads, too
      build_.copy_float(kHeadWeight, source_.tensors().get(kEmbeddingWeight), stored_.floats);
    }
    return is_quantized(source_.scheme(kHead));
  }

  void finish(bool untied) {
    TensorTypes types;
    bool head = false;
    for (const PlannedTensor& t : plan_.tensors) {
      types.emplace_back(t.spec.name, t.type);
      head = head || t.spec.name == kHeadWeight;
    }
    if (!head) types.emplace_back(kHeadWeight, kFloatWord);
    const ordered_json description = make_description(to_, type_, source_.int8_kv(), types);
    plan_.description_name = description_name(to_, type_);
    plan_.description = description_text(to_, description);
    ordered_json c = source_.plain_config();
    if (!c.contains("torch_dtype")) c["torch_dtype"] = config_dtype_name(config_.dtype);
    if (untied && config_.tie_word_embeddings) c["tie_word_embeddings"] = false;
    bool mix = false;
    for (const auto& [name, scheme] : source_.schemes())
      mix = mix || (has_static_input(scheme) && scales_per_token(scheme));
    add_quantization(c, to_, description, mix);
    plan_.config = c.dump(4);
  }

  const QuantizedSource& source_;
  const ModelConfig& config_;
  Layout to_;
  std::string type_;
  StoredTypes stored_;
  LayoutPlan plan_;
  PlanBuilder build_;
};

}  // namespace

LayoutPlan plan_ascend(const QuantizedSource& source, Layout to) {
  return AscendPlan(source, to).run();
}

}  // namespace octet
