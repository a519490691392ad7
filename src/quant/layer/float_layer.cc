#include "src/quant/layer/float_layer.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/model/float_linear.h"
#include "src/model/weights.h"

namespace octet {
namespace {

constexpr size_t kCachedElements = size_t{1} << 16;  // elements that stay in the cache

// A stored tensor on its way to float32.
struct Conversion {
  const TensorView* from;
  std::vector<float>* to;
};

// All of them, by all workers, checked for values that are no numbers.
void convert(const std::vector<Conversion>& all, ThreadTeam& team) {
  try {
    team.run([&](Worker& w) {
      // Whoever touches pages first waits for them, as long as converting takes.
      for (size_t i = w.id(); i < all.size(); i += w.count())
        all[i].to->resize(all[i].from->elements());
      w.barrier();
      for (const Conversion& c : all) {
        const auto [begin, end] = w.share(c.to->size(), kCachedElements);
        for (size_t i = begin; i < end; i += kCachedElements) {
          const TensorView part = c.from->part(i, std::min(kCachedElements, end - i));
          part.expect_finite();
          part.to_floats(c.to->data() + i);
        }
      }
    });
  } catch (const Error&) {
    for (const Conversion& c : all) c.from->expect_finite();  // says which element of the whole
    throw;
  }
  for (const Conversion& c : all) c.from->release();
}

// Whether a tensor is there, as float, in the shape: all that its header says.
void expect_float(const ModelFolder& folder, const std::string& name, const Shape& shape) {
  const TensorView& t = folder.tensors().get(name);
  t.expect_shape(shape);
  if (t.dtype != DType::kF32 && t.dtype != DType::kF16 && t.dtype != DType::kBF16)
    throw Error("is no float tensor")
        .file(t.file->path().string())
        .tensor(name)
        .expected("F32, F16 or BF16")
        .found(std::string(dtype_name(t.dtype)));
}

}  // namespace

void expect_float_model(const ModelFolder& folder) {
  const ModelConfig& c = folder.config();
  const Shape table = {axis_size(c, Axis::kVocab), axis_size(c, Axis::kHidden)};
  expect_float(folder, kEmbeddingWeight, table);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    for (const LayerLinear& l : layer_linears(c, layer)) {
      expect_float(folder, l.full_name + ".weight", {l.shape.n, l.shape.k});
      if (l.shape.bias && !folder.has_zero_bias(l))
        expect_float(folder, l.full_name + ".bias", {l.shape.n});
    }
    for (const LayerNorm& norm : layer_norms(c, layer))
      expect_float(folder, norm.full_name + ".weight", {norm.count});
  }
  expect_float(folder, std::string(kFinalNorm) + ".weight", {axis_size(c, Axis::kHidden)});
  expect_float(folder, folder.head_weight().name, table);
}

FloatLayer load_float_layer(const ModelFolder& folder, int64_t layer, ThreadTeam& team) {
  FloatLayer f;
  f.norms = load_norms(folder, layer);
  std::vector<Conversion> all;
  for (const LayerLinear& l : layer_linears(folder.config(), layer)) {
    FloatWeight& weight = f.at(l.kind);
    weight.shape = l.shape;
    const TensorView& t = folder.tensors().get(l.full_name + ".weight");
    t.expect_shape({l.shape.n, l.shape.k});
    all.push_back({&t, &weight.w});
    if (!l.shape.bias) continue;
    if (folder.has_zero_bias(l)) {
      weight.bias.resize(l.shape.n);
      continue;
    }
    const TensorView& b = folder.tensors().get(l.full_name + ".bias");
    b.expect_shape({l.shape.n});
    all.push_back({&b, &weight.bias});
  }
  convert(all, team);
  return f;
}

std::unique_ptr<Linear> pack_float(const std::vector<const FloatWeight*>& parts, ThreadTeam& team) {
  const size_t k = parts[0]->shape.k;
  size_t n = 0;
  std::vector<float> bias;
  for (const FloatWeight* p : parts) {
    n += p->shape.n;
    bias.insert(bias.end(), p->bias.begin(), p->bias.end());
  }
  const auto row_of = [&](size_t row, void* w) {
    auto part = parts.begin();
    for (; row >= (*part)->shape.n; ++part) row -= (*part)->shape.n;
    std::copy_n((*part)->w.data() + row * k, k, static_cast<float*>(w));
  };
  return std::make_unique<FloatLinear>(row_of, kernels::FloatType::kF32, n, k, bias, team);
}

std::vector<double> column_squares(const std::vector<const FloatWeight*>& parts, ThreadTeam& team) {
  const size_t k = parts[0]->shape.k;
  std::vector<double> sums(k, 0.0);
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(k, 16);
    for (const FloatWeight* part : parts)
      for (size_t row = 0; row < part->w.size(); row += k)
        for (size_t i = begin; i < end; ++i)
          sums[i] += double{part->w[row + i]} * double{part->w[row + i]};
  });
  return sums;
}

std::vector<FloatWeight*> FloatLayer::of(LayerPart part) {
  std::vector<FloatWeight*> weights;
  for (const LinearRow& row : linear_rows())
    if (row.part == part) weights.push_back(&at(row.kind));
  return weights;
}

std::vector<const FloatWeight*> FloatLayer::of(LayerPart part) const {
  std::vector<const FloatWeight*> weights;
  for (const LinearRow& row : linear_rows())
    if (row.part == part) weights.push_back(&at(row.kind));
  return weights;
}

}  // namespace octet
