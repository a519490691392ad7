#include "src/model/weights.h"

#include <algorithm>
#include <cstring>

#include "src/base/error.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/scheme.h"
#include "src/model/float_linear.h"
#include "src/model/linear_group.h"
#include "src/model/make_linear.h"

namespace octet {
namespace {

// One linear of several that may become one matrix, or some of its rows or columns.
struct LinearShare {
  std::string prefix;
  LinearShape shape;  // of the whole linear; without a bias where that is zeros
  Extent rows, columns;
  Scheme scheme{};
  W8A8Params params{};  // W8A8 and W8A8_MIX

  // What is added to the sums of all columns is added by the part that has the first column.
  bool adds() const { return columns.begin == 0; }
};

template <typename T>
std::vector<T> cut(const std::vector<T>& values, const Extent& range) {
  if (values.empty()) return {};
  return {values.begin() + static_cast<ptrdiff_t>(range.begin),
          values.begin() + static_cast<ptrdiff_t>(range.end)};
}

// What `of` gives for every part, of its rows, one after the other.
template <typename F>
std::vector<float> joined(const std::vector<LinearShare>& parts, const F& of) {
  std::vector<float> out;
  for (const LinearShare& p : parts) {
    const std::vector<float> v = cut(of(p), p.rows);
    out.insert(out.end(), v.begin(), v.end());
  }
  return out;
}

std::vector<float> bias_of(const ModelFolder& f, const std::string& prefix,
                           const LinearShape& shape) {
  if (!shape.bias) return {};
  const TensorView& t = f.tensors().get(prefix + ".bias");
  t.expect_shape({shape.n});
  return t.floats();
}

// The weights of all parts, which have the dtype: the rows of one after those of the other.
WeightSource joined_weights(const ModelFolder& f, const std::vector<LinearShare>& parts,
                            DType dtype) {
  struct Rows {
    const std::byte* first;
    size_t count, stride;
  };
  std::vector<Rows> all;
  const size_t columns = parts[0].columns.size() * dtype_size(dtype);
  for (const LinearShare& p : parts) {
    const TensorView& t = f.tensors().get(p.prefix + ".weight");
    t.expect(dtype, {p.shape.n, p.shape.k});
    const size_t stride = p.shape.k * dtype_size(dtype);
    all.push_back({t.data.data() + p.rows.begin * stride + p.columns.begin * dtype_size(dtype),
                   p.rows.size(), stride});
  }
  return [all, columns](size_t row, void* out) {
    auto part = all.begin();
    for (; row >= part->count; ++part) row -= part->count;
    std::memcpy(out, part->first + row * part->stride, columns);
  };
}

W8A8Params joined_params(const std::vector<LinearShare>& parts) {
  W8A8Params all = parts[0].params;
  for (size_t i = 1; i < parts.size(); ++i) {
    const W8A8Params& p = parts[i].params;
    all.quant_bias.insert(all.quant_bias.end(), p.quant_bias.begin(), p.quant_bias.end());
    all.deq_scale.insert(all.deq_scale.end(), p.deq_scale.begin(), p.deq_scale.end());
    all.bias.insert(all.bias.end(), p.bias.begin(), p.bias.end());
  }
  return all;
}

// One matrix for parts that share scheme, bias or none, and, with static activations, the input
// quantization.
std::unique_ptr<Linear> merge(const ModelFolder& f, const std::vector<LinearShare>& parts,
                              ThreadTeam& team) {
  const Scheme scheme = parts[0].scheme;
  const DType dtype =
      !is_quantized(scheme) ? f.tensors().get(parts[0].prefix + ".weight").dtype : DType::kI8;
  LinearParams all{joined_weights(f, parts, dtype),
                   !is_quantized(scheme) ? float_type(dtype) : kernels::FloatType::kI8, 0,
                   parts[0].columns.size()};
  for (const LinearShare& p : parts) all.n += p.rows.size();
  if (has_static_input(scheme)) all.fixed = joined_params(parts);
  if (scales_per_token(scheme) || is_weight_only(scheme))
    all.weight_scale =
        joined(parts, [&](const LinearShare& p) { return weight_scales(f, p.prefix, p.shape.n); });
  if (is_weight_only(scheme))
    all.weight_offset = joined(parts, [&](const LinearShare& p) {
      return quant_values(f.tensors().get(p.prefix + suffix::kWeightOffset));
    });
  if (std::ranges::all_of(all.weight_offset, [](float v) { return v == 0; }))
    all.weight_offset.clear();
  // What is added before the ranks' sum is the first one's; with scales a token it comes after.
  if (scales_per_token(scheme) || (!is_static(scheme) && parts[0].adds()))
    all.bias = joined(parts, [&](const LinearShare& p) { return bias_of(f, p.prefix, p.shape); });
  auto linear = make_linear(scheme, all, team);
  for (const LinearShare& p : parts) f.tensors().get(p.prefix + ".weight").release();
  return linear;
}

// compressed-tensors: y = (sum_k (xq - zero point) w) * input_scale * weight_scale + bias.
W8A8Params compressed_params(const ModelFolder& f, const std::string& prefix,
                             const LinearShape& shape) {
  const InputQuant input = input_quant(f, prefix);
  const TensorView& weight = f.tensors().get(prefix + ".weight");
  weight.expect(DType::kI8, {shape.n, shape.k});
  const std::vector<int64_t> sums = row_sums(weight);
  W8A8Params p{input.scale, input.offset, std::vector<int32_t>(shape.n),
               weight_scales(f, prefix, shape.n), bias_of(f, prefix, shape)};
  for (size_t j = 0; j < shape.n; ++j) {
    p.quant_bias[j] = static_cast<int32_t>(-static_cast<int64_t>(input.offset) * sums[j]);
    p.deq_scale[j] *= input.scale;
  }
  return p;
}

W8A8Params static_params(const ModelFolder& f, const std::string& prefix,
                         const LinearShape& shape) {
  if (f.compressed_tensors()) return compressed_params(f, prefix, shape);
  const InputQuant input = input_quant(f, prefix);
  return {input.scale, input.offset, f.tensors().get(prefix + suffix::kQuantBias).values<int32_t>(),
          quant_values(f.tensors().get(prefix + suffix::kDeqScale))};
}

// Sets what the checkpoint says of the part.
void load_part(const ModelFolder& f, LinearShare& p) {
  p.scheme = f.scheme(p.prefix);
  expect_quant_tensors(f, p.prefix, quant_tensors(f, p.scheme), p.shape.n);
  if (!has_static_input(p.scheme)) return;
  p.params = static_params(f, p.prefix, p.shape);
  p.params.quant_bias = cut(p.params.quant_bias, p.rows);
  p.params.deq_scale = cut(p.params.deq_scale, p.rows);
  p.params.bias = cut(p.params.bias, p.rows);
  if (!p.adds()) std::fill(p.params.quant_bias.begin(), p.params.quant_bias.end(), 0);
}

bool can_merge(const ModelFolder& f, const LinearShare& a, const LinearShare& b) {
  const auto dtype = [&](const LinearShare& p) {
    return f.tensors().get(p.prefix + ".weight").dtype;
  };
  return a.scheme == b.scheme && a.shape.bias == b.shape.bias &&
         (is_quantized(a.scheme) || dtype(a) == dtype(b)) &&
         a.params.input_scale == b.params.input_scale &&
         a.params.input_offset == b.params.input_offset;
}

KvCacheParams load_kv_params(const ModelFolder& f, int64_t layer, const Shard& shard) {
  if (!f.int8_kv()) return {};
  KvCacheParams scales;
  auto into = {std::pair(&scales.k_scale, &scales.k_offset),
               std::pair(&scales.v_scale, &scales.v_offset)};
  auto to = into.begin();
  for (const LayerLinear& l : layer_linears(f.config(), layer)) {
    if (!l.in_kv_cache) continue;
    expect_quant_tensors(f, l.full_name, kv_cache_tensors(), l.shape.n);
    const Extent channels = shard.extent(l.rows, f.config());
    const auto values = [&](const char* suffix) {
      return cut(quant_values(f.tensors().get(l.full_name + suffix)), channels);
    };
    *to->first = values(suffix::kKvScale);
    *to->second = values(suffix::kKvOffset);
    ++to;
  }
  return scales;
}

// The parts side by side: one matrix for neighbours that can be merged.
std::unique_ptr<Linear> load_parts(const ModelFolder& f, std::vector<LinearShare> parts,
                                   ThreadTeam& team) {
  std::vector<std::unique_ptr<Linear>> groups;
  std::vector<LinearShare> run;
  for (LinearShare& p : parts) {
    load_part(f, p);
    if (!run.empty() && !can_merge(f, run[0], p)) {
      groups.push_back(merge(f, run, team));
      run.clear();
    }
    run.push_back(std::move(p));
  }
  groups.push_back(merge(f, run, team));
  if (groups.size() == 1) return std::move(groups[0]);
  return std::make_unique<LinearGroup>(std::move(groups));
}

}  // namespace

kernels::FloatType float_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return kernels::FloatType::kF32;
    case DType::kF16:
      return kernels::FloatType::kF16;
    case DType::kBF16:
      return kernels::FloatType::kBF16;
    default:
      throw Error("unsupported dtype of a float tensor")
          .expected("F32, F16 or BF16")
          .found(std::string(dtype_name(dtype)));
  }
}

Norm load_norm(const ModelFolder& f, const std::string& prefix, uint64_t size) {
  // Old msModelSlim wraps a smoothed norm as `<norm>.module`; a newer file may hold both forms.
  const TensorView* weight = f.tensors().find(prefix + ".weight");
  const TensorView* bias = f.tensors().find(prefix + ".bias");
  if (weight == nullptr) weight = f.tensors().find(prefix + ".module.weight");
  if (bias == nullptr) bias = f.tensors().find(prefix + ".module.bias");
  if (weight == nullptr) weight = &f.tensors().get(prefix + ".weight");  // throws
  weight->expect_shape({size});
  weight->expect_finite();
  Norm n{weight->floats(), {}, static_cast<float>(f.config().rms_norm_eps)};
  if (bias != nullptr) {
    bias->expect_shape({size});
    n.bias = bias->floats();
    bool all_zero = true;
    for (float v : n.bias) all_zero = all_zero && v == 0;
    if (all_zero) n.bias.clear();
  }
  return n;
}

LayerNorms load_norms(const ModelFolder& f, int64_t layer) {
  LayerNorms norms;
  for (const LayerNorm& norm : layer_norms(f.config(), layer))
    norms[norm.kind] = load_norm(f, norm.full_name, norm.count);
  return norms;
}

Norm load_final_norm(const ModelFolder& f) {
  return load_norm(f, kFinalNorm, axis_size(f.config(), Axis::kHidden));
}

DecoderLayer load_layer(const ModelFolder& f, int64_t layer, const Shard& shard, ThreadTeam& team) {
  DecoderLayer loaded;
  loaded.norms = load_norms(f, layer);
  for (const PartRow& row : part_rows()) {
    std::vector<LinearShare> parts;
    for (const LayerLinear& l : layer_linears(f.config(), layer, row.part))
      parts.push_back({l.full_name,
                       {l.shape.n, l.shape.k, l.shape.bias && !f.has_zero_bias(l)},
                       shard.extent(l.rows, f.config()),
                       shard.extent(l.columns, f.config())});
    loaded.part(row.part) = load_parts(f, std::move(parts), team);
  }
  loaded.kv_params = load_kv_params(f, layer, shard);
  return loaded;
}

std::unique_ptr<Linear> load_quantized_head(const ModelFolder& f, const Shard& shard,
                                            ThreadTeam& team) {
  const LinearShape shape = head_shape(f.config());
  return load_parts(f, {{kHead, shape, shard.vocab, {0, shape.k}}}, team);
}

}  // namespace octet
