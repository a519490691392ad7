#include "src/quant/layer/float_layer.h"

#include <algorithm>
#include <exception>

#include "src/base/error.h"
#include "src/model/float_linear.h"
#include "src/model/weights.h"

namespace octet {
namespace {

constexpr size_t kChunk = size_t{1} << 16;  // elements that stay in the cache

// A stored tensor on its way to float32.
struct Conversion {
  const TensorView* from;
  std::vector<float>* to;
};

// All of them, by all workers, checked for values that are no numbers.
void convert(const std::vector<Conversion>& all, ThreadTeam& team) {
  std::vector<std::exception_ptr> errors(team.size());
  team.run([&](Worker& w) {
    try {  // whoever touches pages first waits for them, as long as converting takes
      for (size_t i = w.id(); i < all.size(); i += w.count())
        all[i].to->resize(all[i].from->elements());
    } catch (...) {
      errors[w.id()] = std::current_exception();
    }
    w.barrier();
    for (const Conversion& c : all) {
      const auto [begin, end] = w.share(c.to->size(), kChunk);
      try {
        for (size_t i = begin; i < end; i += kChunk) {
          const TensorView part = c.from->part(i, std::min(kChunk, end - i));
          part.expect_finite();
          part.to_floats(c.to->data() + i);
        }
      } catch (...) {
        errors[w.id()] = std::current_exception();
      }
    }
  });
  for (const std::exception_ptr& e : errors)
    if (e) {
      for (const Conversion& c : all) c.from->expect_finite();  // says which element of the whole
      std::rethrow_exception(e);
    }
  for (const Conversion& c : all) c.from->release();
}

}  // namespace

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
    const TensorView& b = folder.tensors().get(l.full_name + ".bias");
    b.expect_shape({l.shape.n});
    all.push_back({&b, &weight.bias});
  }
  convert(all, team);
  return f;
}

std::unique_ptr<Linear> pack_float(const std::vector<const FloatWeight*>& parts, ThreadTeam& team) {
  std::vector<float> w, bias;
  for (const FloatWeight* p : parts) {
    w.insert(w.end(), p->w.begin(), p->w.end());
    bias.insert(bias.end(), p->bias.begin(), p->bias.end());
  }
  const size_t k = parts[0]->shape.k, n = w.size() / k;
  return std::make_unique<FloatLinear>(w.data(), kernels::FloatType::kF32, n, k, bias, team);
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
