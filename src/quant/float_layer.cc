#include "src/quant/float_layer.h"

#include <algorithm>
#include <exception>

#include "src/base/error.h"
#include "src/model/kv_cache.h"
#include "src/model/rope.h"
#include "src/model/weights.h"

namespace octet {
namespace {

constexpr size_t kChunk = size_t{1} << 16;  // elements that stay in the cache

// The most that any batch needs, and all rows.
struct Largest {
  size_t rows = 0, pages = 0, all_rows = 0;
};
Largest largest_of(const std::vector<TokenBatch>& batches) {
  Largest l;
  for (const TokenBatch& b : batches) {
    OCTET_CHECK(!b.empty() && !b[0].empty());
    l.rows = std::max(l.rows, b.size() * b[0].size());
    l.pages = std::max(l.pages, b.size() * blocks_for(b[0].size()));
    l.all_rows += b.size() * b[0].size();
  }
  OCTET_CHECK(l.rows > 0);
  return l;
}

ModelConfig one_layer(ModelConfig c) {
  c.layers = 1;
  return c;
}

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
  f.input_norm = load_norm(folder, layer_prefix(layer) + "input_layernorm");
  f.post_norm = load_norm(folder, layer_prefix(layer) + "post_attention_layernorm");
  std::vector<Conversion> all;
  for (LinearKind kind : kLinearKinds) {
    FloatWeight& l = f.at(kind);
    l.shape = linear_shape(folder.config(), kind);
    const std::string name = linear_name(layer, kind);
    const TensorView& t = folder.tensors().get(name + ".weight");
    t.expect_shape({l.shape.n, l.shape.k});
    all.push_back({&t, &l.w});
    if (l.shape.bias) {
      const TensorView& b = folder.tensors().get(name + ".bias");
      b.expect_shape({l.shape.n});
      all.push_back({&b, &l.bias});
    }
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
  return std::make_unique<FloatLinear>(w.data(), kernels::FloatType::kF32, n, k, std::move(bias),
                                       team);
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

std::vector<const FloatWeight*> FloatLayer::weights_of(const InputGroup& group) const {
  std::vector<const FloatWeight*> weights;
  for (LinearKind kind : group.kinds) weights.push_back(&at(kind));
  return weights;
}

Norm& FloatLayer::norm_of(const InputGroup& group) {
  OCTET_CHECK(group.after_norm());
  return group.source == InputSource::kInputNorm ? input_norm : post_norm;
}

const std::vector<InputGroup>& input_groups() {
  static const std::vector<InputGroup> groups = {
      {{LinearKind::kQ, LinearKind::kK, LinearKind::kV}, InputSource::kInputNorm},
      {{LinearKind::kO}, InputSource::kV},
      {{LinearKind::kGate, LinearKind::kUp}, InputSource::kPostNorm},
      {{LinearKind::kDown}, InputSource::kUp}};
  return groups;
}

std::vector<std::string> linear_names(int64_t layer, const InputGroup& group) {
  std::vector<std::string> names;
  for (LinearKind kind : group.kinds) names.push_back(linear_name(layer, kind));
  return names;
}

CalibrationStream::CalibrationStream(const ModelConfig& config, const Embed& embed,
                                     const std::vector<TokenBatch>& batches,
                                     ActivationMemory& memory, ThreadTeam& team)
    : config_(one_layer(config)),
      team_(team),
      states_(memory.get(largest_of(batches).all_rows * static_cast<size_t>(config.hidden_size))),
      buffers_(config_, largest_of(batches).rows),
      cache_(
          std::make_unique<KvCache>(config_, largest_of(batches).pages, kernels::FloatType::kF32)) {
  OCTET_CHECK(cache_->allocate(largest_of(batches).pages, pages_));
  const Rope rope(config);
  const size_t half = rope.half(), hidden = static_cast<size_t>(config_.hidden_size);
  size_t first = 0;
  for (const TokenBatch& batch : batches) {
    const size_t tokens = batch[0].size(), rows = batch.size() * tokens;
    std::vector<int32_t> ids;
    for (const std::vector<int32_t>& sequence : batch) {
      OCTET_CHECK(sequence.size() == tokens);
      ids.insert(ids.end(), sequence.begin(), sequence.end());
    }
    const std::vector<float> x = embed(ids);
    std::copy(x.begin(), x.end(), states_.data() + first * hidden);
    states_.rest(first * hidden, rows * hidden);
    Batch b{tokens, first, rows, std::vector<float>(rows * half), std::vector<float>(rows * half)};
    first += rows;
    for (size_t r = 0; r < rows; ++r)
      rope.angles(r % tokens, b.cos.data() + r * half, b.sin.data() + r * half);
    batches_.push_back(std::move(b));
  }
}

CalibrationStream::~CalibrationStream() = default;

void CalibrationStream::tap(const Norm& norm, const Tap& tap) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  for (const Batch& b : batches_) {
    norm.rows(states_.data() + b.first * hidden, 0, b.rows, buffers_.h.data());
    tap(buffers_.h.data(), hidden, b.rows);
  }
}

void CalibrationStream::run(const DecoderLayer& layer, const std::function<void()>& done) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  for (const Batch& b : batches_) {
    const size_t m = b.rows;
    float* x = states_.data() + b.first * hidden;
    std::copy_n(x, m * hidden, buffers_.x.data());
    std::copy(b.cos.begin(), b.cos.end(), buffers_.cos.data());
    std::copy(b.sin.begin(), b.sin.end(), buffers_.sin.data());
    std::vector<SequenceChunk> chunks;
    for (size_t first = 0; first < m; first += b.tokens)
      chunks.push_back({first, b.tokens, 0, pages_.data() + chunks.size() * blocks_for(b.tokens)});
    const KvView kv{cache_->k_pool(0), cache_->v_pool(0), cache_->page_elements(), cache_->type()};
    team_.run([&](Worker& w) { layer.forward(w, config_, chunks, m, kv, buffers_); });
    std::copy_n(buffers_.x.data(), m * hidden, x);
    states_.rest(b.first * hidden, m * hidden);
  }
  if (done) done();
}

}  // namespace octet
