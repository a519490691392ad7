#include "src/model/weights.h"

#include <cmath>
#include <cstring>

#include "src/base/error.h"

namespace octet {
namespace {

template <typename T>
std::vector<T> copy_as(const TensorView& t) {
  std::vector<T> out(t.data.size() / sizeof(T));
  std::memcpy(out.data(), t.data.data(), t.data.size());
  return out;
}

// A tensor of one element, shape [1] or [].
float scalar(const TensorView& t) {
  if (t.elements() != 1) t.expect_shape({1});
  if (t.dtype == DType::kI8) return static_cast<float>(copy_as<int8_t>(t)[0]);
  return t.floats()[0];
}

Error bad_value(const TensorView& t, const char* expected, double found) {
  return Error("bad value")
      .file(t.file->path().string())
      .tensor(t.name)
      .expected(expected)
      .found(std::to_string(found))
      .remedy("the checkpoint is damaged; run `octet check`");
}

std::vector<float> load_bias(const ModelFolder& f, const std::string& prefix, uint64_t n) {
  const TensorView& t = f.tensors().get(prefix + ".bias");
  t.expect_shape({n});
  return t.floats();
}

struct Source {
  std::string prefix;
  LinearShape shape;
  Scheme scheme;
};

std::unique_ptr<Linear> merge_float(const ModelFolder& f, const std::vector<Source>& parts,
                                    ThreadTeam& team) {
  const DType dtype = f.tensors().get(parts[0].prefix + ".weight").dtype;
  const kernels::FloatType type = float_type(dtype);
  size_t n = 0;
  std::vector<std::byte> weights;
  std::vector<float> bias;
  for (const Source& p : parts) {
    const TensorView& t = f.tensors().get(p.prefix + ".weight");
    t.expect(dtype, {p.shape.n, p.shape.k});
    weights.insert(weights.end(), t.data.begin(), t.data.end());
    t.release();
    if (p.shape.bias) {
      const std::vector<float> b = load_bias(f, p.prefix, p.shape.n);
      bias.insert(bias.end(), b.begin(), b.end());
    }
    n += p.shape.n;
  }
  return std::make_unique<FloatLinear>(weights.data(), type, n, parts[0].shape.k, std::move(bias),
                                       team);
}

std::unique_ptr<Linear> merge_w8a8(const ModelFolder& f, const std::vector<Source>& parts,
                                   const std::vector<W8A8Params>& params, ThreadTeam& team) {
  std::vector<int8_t> weights;
  W8A8Params all{params[0].input_scale, params[0].input_offset, {}, {}};
  for (size_t i = 0; i < parts.size(); ++i) {
    const TensorView& t = f.tensors().get(parts[i].prefix + ".weight");
    t.expect(DType::kI8, {parts[i].shape.n, parts[i].shape.k});
    const int8_t* data = reinterpret_cast<const int8_t*>(t.data.data());
    weights.insert(weights.end(), data, data + t.data.size());
    t.release();
    all.quant_bias.insert(all.quant_bias.end(), params[i].quant_bias.begin(),
                          params[i].quant_bias.end());
    all.deq_scale.insert(all.deq_scale.end(), params[i].deq_scale.begin(),
                         params[i].deq_scale.end());
  }
  const size_t n = all.quant_bias.size();
  return std::make_unique<W8A8Linear>(weights.data(), n, parts[0].shape.k, all, team);
}

// One matrix for parts that share scheme (and, in int8, the input quantization).
std::unique_ptr<Linear> merge(const ModelFolder& f, const std::vector<Source>& parts,
                              const std::vector<W8A8Params>& params, ThreadTeam& team) {
  switch (parts[0].scheme) {
    case Scheme::kFloat:
      return merge_float(f, parts, team);
    case Scheme::kW8A8:
      return merge_w8a8(f, parts, params, team);
    default:
      throw Error("this quantization type cannot be computed yet")
          .file(f.description()->source)
          .tensor(parts[0].prefix + ".weight")
          .expected("FLOAT or W8A8")
          .found(scheme_name(parts[0].scheme));
  }
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

W8A8Params load_w8a8_params(const ModelFolder& f, const std::string& prefix, size_t n) {
  W8A8Params p;
  const TensorView& scale = f.tensors().get(prefix + ".input_scale");
  p.input_scale = scalar(scale);
  if (!(p.input_scale > 0) || std::isinf(p.input_scale))
    throw bad_value(scale, "a positive number", p.input_scale);
  const TensorView& offset = f.tensors().get(prefix + ".input_offset");
  p.input_offset = scalar(offset);
  if (!(p.input_offset >= -128 && p.input_offset <= 127) ||
      p.input_offset != std::nearbyint(p.input_offset))
    throw bad_value(offset, "an integer from -128 to 127", p.input_offset);
  const TensorView& bias = f.tensors().get(prefix + ".quant_bias");
  bias.expect(DType::kI32, {n});
  p.quant_bias = copy_as<int32_t>(bias);
  const TensorView& deq = f.tensors().get(prefix + ".deq_scale");
  deq.expect_shape({n});
  if (deq.dtype == DType::kI64) {
    for (int64_t bits : copy_as<int64_t>(deq))
      p.deq_scale.push_back(std::bit_cast<float>(static_cast<uint32_t>(bits)));
  } else {
    deq.expect(DType::kF32, {n});
    p.deq_scale = deq.floats();
  }
  for (float s : p.deq_scale)
    if (!std::isfinite(s)) throw bad_value(deq, "finite numbers", s);
  return p;
}

std::unique_ptr<Linear> load_linears(const ModelFolder& f, const std::vector<std::string>& prefixes,
                                     const std::vector<LinearShape>& shapes, ThreadTeam& team) {
  // Runs of neighbours that can be merged become one part each.
  std::vector<std::unique_ptr<Linear>> groups;
  std::vector<Source> run;
  std::vector<W8A8Params> params;
  const auto close_run = [&] {
    if (!run.empty()) groups.push_back(merge(f, run, params, team));
    run.clear();
    params.clear();
  };
  for (size_t i = 0; i < prefixes.size(); ++i) {
    Source s{prefixes[i], shapes[i], f.scheme(prefixes[i])};
    W8A8Params p;
    if (s.scheme == Scheme::kW8A8) p = load_w8a8_params(f, s.prefix, s.shape.n);
    if (!run.empty()) {
      const bool same =
          s.scheme == run[0].scheme && s.shape.bias == run[0].shape.bias &&
          (s.scheme != Scheme::kFloat || f.tensors().get(s.prefix + ".weight").dtype ==
                                             f.tensors().get(run[0].prefix + ".weight").dtype) &&
          p.input_scale == params[0].input_scale && p.input_offset == params[0].input_offset;
      if (!same) close_run();
    }
    run.push_back(std::move(s));
    params.push_back(std::move(p));
  }
  close_run();
  if (groups.size() == 1) return std::move(groups[0]);
  return std::make_unique<LinearGroup>(std::move(groups));
}

Norm load_norm(const ModelFolder& f, const std::string& prefix) {
  const uint64_t hidden = static_cast<uint64_t>(f.config().hidden_size);
  // Old msModelSlim wraps a smoothed norm as `<norm>.module`; a newer file may hold both forms.
  const TensorView* weight = f.tensors().find(prefix + ".weight");
  const TensorView* bias = f.tensors().find(prefix + ".bias");
  if (weight == nullptr) weight = f.tensors().find(prefix + ".module.weight");
  if (bias == nullptr) bias = f.tensors().find(prefix + ".module.bias");
  if (weight == nullptr) weight = &f.tensors().get(prefix + ".weight");  // throws
  weight->expect_shape({hidden});
  weight->expect_finite();
  Norm n{weight->floats(), {}, static_cast<float>(f.config().rms_norm_eps)};
  if (bias != nullptr) {
    bias->expect_shape({hidden});
    n.bias = bias->floats();
    bool all_zero = true;
    for (float v : n.bias) all_zero = all_zero && v == 0;
    if (all_zero) n.bias.clear();
  }
  return n;
}

DecoderLayer load_layer(const ModelFolder& f, int64_t layer, ThreadTeam& team) {
  const auto load = [&](std::initializer_list<LinearKind> kinds) {
    std::vector<std::string> prefixes;
    std::vector<LinearShape> shapes;
    for (LinearKind kind : kinds) {
      prefixes.push_back(linear_name(layer, kind));
      shapes.push_back(linear_shape(f.config(), kind));
    }
    return load_linears(f, prefixes, shapes, team);
  };
  DecoderLayer l;
  l.input_norm = load_norm(f, layer_prefix(layer) + "input_layernorm");
  l.post_norm = load_norm(f, layer_prefix(layer) + "post_attention_layernorm");
  l.qkv = load({LinearKind::kQ, LinearKind::kK, LinearKind::kV});
  l.o = load({LinearKind::kO});
  l.gate_up = load({LinearKind::kGate, LinearKind::kUp});
  l.down = load({LinearKind::kDown});
  return l;
}

std::unique_ptr<Linear> load_head(const ModelFolder& f, ThreadTeam& team) {
  const uint64_t vocab = static_cast<uint64_t>(f.config().vocab_size);
  const uint64_t hidden = static_cast<uint64_t>(f.config().hidden_size);
  if (f.scheme("lm_head") != Scheme::kFloat)
    return load_linears(f, {"lm_head"}, {{vocab, hidden, false}}, team);
  const TensorView& t = f.head_weight();
  t.expect_shape({vocab, hidden});
  return std::make_unique<FloatLinear>(t.data.data(), float_type(t.dtype), vocab, hidden,
                                       std::vector<float>(), team);
}

}  // namespace octet
