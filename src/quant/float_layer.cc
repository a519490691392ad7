#include "src/quant/float_layer.h"

#include <algorithm>
#include <cstring>

#include "src/base/error.h"
#include "src/model/kv_cache.h"
#include "src/model/rope.h"
#include "src/model/weights.h"

namespace octet {
namespace {

size_t longest_of(const std::vector<std::vector<int32_t>>& samples) {
  size_t n = 0;
  for (const auto& s : samples) n = std::max(n, s.size());
  OCTET_CHECK(n > 0);
  return n;
}

ModelConfig one_layer(ModelConfig c) {
  c.layers = 1;
  return c;
}

}  // namespace

FloatLayer load_float_layer(const ModelFolder& folder, int64_t layer) {
  FloatLayer f;
  f.input_norm = load_norm(folder, layer_prefix(layer) + "input_layernorm");
  f.post_norm = load_norm(folder, layer_prefix(layer) + "post_attention_layernorm");
  for (LinearKind kind : kLinearKinds) {
    FloatWeight& l = f.at(kind);
    l.shape = linear_shape(folder.config(), kind);
    const std::string name = linear_name(layer, kind);
    const TensorView& t = folder.tensors().get(name + ".weight");
    t.expect_shape({l.shape.n, l.shape.k});
    t.expect_finite();
    l.w = t.floats();
    t.release();
    if (l.shape.bias) {
      const TensorView& b = folder.tensors().get(name + ".bias");
      b.expect_shape({l.shape.n});
      b.expect_finite();
      l.bias = b.floats();
    }
  }
  return f;
}

FloatWeight load_float_head(const ModelFolder& folder) {
  FloatWeight w;
  w.shape = {static_cast<uint64_t>(folder.config().vocab_size),
             static_cast<uint64_t>(folder.config().hidden_size), false};
  const TensorView& t = folder.head_weight();
  t.expect_shape({w.shape.n, w.shape.k});
  t.expect_finite();
  w.w = t.floats();
  return w;
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

const std::vector<InputGroup>& input_groups() {
  static const std::vector<InputGroup> groups = {
      {{LinearKind::kQ, LinearKind::kK, LinearKind::kV}, true},
      {{LinearKind::kO}, false},
      {{LinearKind::kGate, LinearKind::kUp}, true},
      {{LinearKind::kDown}, false}};
  return groups;
}

CalibrationStream::CalibrationStream(const ModelFolder& folder,
                                     const std::vector<std::vector<int32_t>>& samples,
                                     ThreadTeam& team)
    : config_(one_layer(folder.config())),
      team_(team),
      longest_(longest_of(samples)),
      buffers_(config_, longest_),
      cache_(std::make_unique<KvCache>(config_, blocks_for(longest_), kernels::FloatType::kF32)) {
  OCTET_CHECK(cache_->allocate(blocks_for(longest_), blocks_));
  const Rope rope(folder.config());
  const size_t hidden = static_cast<size_t>(config_.hidden_size), half = rope.half();
  TensorView row = folder.tensors().get("model.embed_tokens.weight");
  row.expect_shape({static_cast<uint64_t>(config_.vocab_size), hidden});
  const auto all = row.data;
  const size_t row_bytes = hidden * dtype_size(row.dtype);
  for (const auto& ids : samples) {
    std::vector<float> x(ids.size() * hidden), cos(ids.size() * half), sin(ids.size() * half);
    for (size_t t = 0; t < ids.size(); ++t) {
      row.data = all.subspan(static_cast<size_t>(ids[t]) * row_bytes, row_bytes);
      row.to_floats(x.data() + t * hidden);
      rope.angles(t, cos.data() + t * half, sin.data() + t * half);
    }
    states_.push_back(std::move(x));
    cos_.push_back(std::move(cos));
    sin_.push_back(std::move(sin));
  }
}

CalibrationStream::~CalibrationStream() = default;

void CalibrationStream::tap(const Norm& norm, const Tap& tap) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  std::vector<float> y(longest_ * hidden);
  for (const std::vector<float>& x : states_) {
    norm.rows(x.data(), 0, x.size() / hidden, y.data());
    tap(y.data(), hidden, x.size() / hidden);
  }
}

void CalibrationStream::run(const DecoderLayer& layer, const std::function<void()>& done) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  for (size_t s = 0; s < states_.size(); ++s) {
    std::vector<float>& x = states_[s];
    const size_t m = x.size() / hidden;
    std::copy(x.begin(), x.end(), buffers_.x.data());
    std::copy(cos_[s].begin(), cos_[s].end(), buffers_.cos.data());
    std::copy(sin_[s].begin(), sin_[s].end(), buffers_.sin.data());
    const std::vector<SequenceChunk> chunks = {{0, m, 0, blocks_.data()}};
    const KvView kv{cache_->k_pool(0), cache_->v_pool(0), cache_->page_elements(), cache_->type()};
    team_.run([&](Worker& w) { layer.forward(w, config_, chunks, m, kv, buffers_); });
    std::copy(buffers_.x.data(), buffers_.x.data() + x.size(), x.begin());
  }
  if (done) done();
}

}  // namespace octet
