// A decoder layer of a tiny size against its formulas in double: chunks, several sequences, grouped
// heads, and an int8 KV cache.
#include "src/model/layer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "src/model/float_linear.h"
#include "src/model/kv_cache.h"

namespace octet {
namespace {

using kernels::FloatType;

constexpr size_t kHidden = 24, kHeads = 4, kKvHeads = 2, kHeadDim = 8, kInter = 40;
constexpr size_t kGroup = kHeads / kKvHeads, kQ = kHeads * kHeadDim, kKv = kKvHeads * kHeadDim;
constexpr size_t kQkv = kQ + 2 * kKv;

ModelConfig config() {
  ModelConfig c;
  c.hidden_size = kHidden;
  c.intermediate_size = kInter;
  c.layers = 1;
  c.heads = kHeads;
  c.kv_heads = kKvHeads;
  c.head_dim = kHeadDim;
  return c;
}

using Row = std::vector<double>;

struct Matrix {
  size_t n, k;
  std::vector<float> w, bias;  // [n, k], [n]

  Row operator()(const Row& x) const {
    Row y;
    for (size_t j = 0; j < n; ++j) {
      double sum = bias[j];
      for (size_t i = 0; i < k; ++i) sum += x[i] * double{w[j * k + i]};
      y.push_back(sum);
    }
    return y;
  }
};

Row normalized(const Norm& norm, const Row& x) {
  double squares = 0;
  for (double v : x) squares += v * v;
  const double scale = 1 / std::sqrt(squares / static_cast<double>(x.size()) + double{norm.eps});
  Row y;
  for (size_t i = 0; i < x.size(); ++i)
    y.push_back(x[i] * scale * double{norm.weight[i]} +
                (norm.bias.empty() ? 0.0 : double{norm.bias[i]}));
  return y;
}

// Tokens of one sequence and what the reference knows of them.
struct Sequence {
  std::vector<Row> x;     // the residual stream, before and after
  std::vector<Row> k, v;  // of its tokens, as attention reads them
  std::vector<int32_t> pages;
};

class Layer : public ::testing::TestWithParam<size_t> {
 protected:
  Layer()
      : qkv_(matrix(kQkv, kHidden)),
        o_(matrix(kHidden, kQ)),
        gate_up_(matrix(2 * kInter, kHidden)),
        down_(matrix(kHidden, kInter)) {
    layer_.norms[NormKind::kInput] = {random(kHidden, 0.5f, 1.5f), random(kHidden, -0.5f, 0.5f),
                                      1e-5f};
    layer_.norms[NormKind::kPostAttention] = {random(kHidden, 0.5f, 1.5f), {}, 1e-5f};
    layer_.qkv = linear(qkv_);
    layer_.o = linear(o_);
    layer_.gate_up = linear(gate_up_);
    layer_.down = linear(down_);
  }

  std::vector<float> random(size_t count, float lo, float hi) {
    std::uniform_real_distribution<float> d(lo, hi);
    std::vector<float> v(count);
    for (float& f : v) f = d(rng_);
    return v;
  }
  Matrix matrix(size_t n, size_t k) {
    return {n, k, random(n * k, -0.4f, 0.4f), random(n, -0.1f, 0.1f)};
  }
  std::unique_ptr<Linear> linear(const Matrix& m) {
    return std::make_unique<FloatLinear>(m.w.data(), FloatType::kF32, m.n, m.k, m.bias, team_);
  }

  // What the test takes for the angles of a position.
  static float angle(size_t position, size_t i) {
    return 0.7f * static_cast<float>(position) / static_cast<float>(1 + i);
  }
  static void rotate(double* head, size_t position) {
    constexpr size_t half = kHeadDim / 2;
    for (size_t i = 0; i < half; ++i) {
      const double c = std::cos(angle(position, i)), s = std::sin(angle(position, i));
      const double a = head[i], b = head[i + half];
      head[i] = a * c - b * s;
      head[i + half] = b * c + a * s;
    }
  }

  // q [kQ] after rope of the token; its k and v are appended to the sequence's.
  Row attention_input(Sequence& s, size_t position) const {
    Row row = qkv_(normalized(layer_.norms[NormKind::kInput], s.x[position]));
    for (size_t h = 0; h < kHeads + kKvHeads; ++h) rotate(&row[h * kHeadDim], position);
    const auto k = row.begin() + kQ, v = k + kKv;
    s.k.emplace_back(k, v);
    s.v.emplace_back(v, row.end());
    row.resize(kQ);
    return row;
  }
  static Row attended(const Sequence& s, const Row& q, size_t position) {
    Row out(kQ);
    for (size_t h = 0; h < kHeads; ++h) {
      const size_t kv = h / kGroup * kHeadDim;
      Row weight;
      double sum = 0;
      for (size_t t = 0; t <= position; ++t) {
        double dot = 0;
        for (size_t d = 0; d < kHeadDim; ++d) dot += q[h * kHeadDim + d] * s.k[t][kv + d];
        weight.push_back(std::exp(dot / std::sqrt(double{kHeadDim})));
        sum += weight.back();
      }
      for (size_t t = 0; t <= position; ++t)
        for (size_t d = 0; d < kHeadDim; ++d)
          out[h * kHeadDim + d] += weight[t] / sum * s.v[t][kv + d];
    }
    return out;
  }
  // The rest of the layer, from the attention's result on.
  void finish(Row& x, const Row& attention) const {
    const Row o = o_(attention);
    for (size_t i = 0; i < kHidden; ++i) x[i] += o[i];
    const Row gate_up = gate_up_(normalized(layer_.norms[NormKind::kPostAttention], x));
    Row act(kInter);
    for (size_t i = 0; i < kInter; ++i)
      act[i] = gate_up[i] / (1 + std::exp(-gate_up[i])) * gate_up[kInter + i];
    const Row down = down_(act);
    for (size_t i = 0; i < kHidden; ++i) x[i] += down[i];
  }

  Sequence sequence(size_t tokens) {
    Sequence s;
    for (size_t t = 0; t < tokens; ++t) {
      const std::vector<float> x = random(kHidden, -1, 1);
      s.x.emplace_back(x.begin(), x.end());
    }
    EXPECT_TRUE(cache_->allocate(blocks_for(tokens), s.pages));
    return s;
  }

  // Tokens [begin, end) of a sequence.
  struct Chunk {
    const Sequence* sequence;
    size_t begin, end;
  };
  // The layer's output rows for a step of these parts, one after another.
  std::vector<float> step(const std::vector<Chunk>& parts) {
    const RankShape shape(config());
    StepBuffers b(shape, 128);
    std::vector<SequenceChunk> chunks;
    size_t m = 0;
    for (const Chunk& p : parts) {
      chunks.push_back({m, p.end - p.begin, p.begin, p.sequence->pages.data()});
      for (size_t t = p.begin; t < p.end; ++t, ++m) {
        for (size_t i = 0; i < kHidden; ++i)
          b.x[m * kHidden + i] = static_cast<float>(p.sequence->x[t][i]);
        for (size_t i = 0; i < kHeadDim / 2; ++i) {
          b.cos[m * kHeadDim / 2 + i] = std::cos(angle(t, i));
          b.sin[m * kHeadDim / 2 + i] = std::sin(angle(t, i));
        }
      }
    }
    const KvView kv{cache_->k_pool(0), cache_->v_pool(0), cache_->page_elements(), cache_->type()};
    b.attention.set(shape, chunks, team_.size());
    team_.run([&](Worker& w) { layer_.forward(w, shape, m, kv, b); });
    return {b.x.data(), b.x.data() + m * kHidden};
  }

  // Each row of y is the reference's. Every linear rounds k products of float32, so that its result
  // is off by k u times what it adds up; norm, softmax and SiLU keep errors of that order, and the
  // values of a row are of one size: all inputs of the four linears together, times u, times the
  // row's largest, twice for what lies between.
  void expect_rows(const float* y, const Sequence& s, size_t begin, size_t end) const {
    for (size_t t = begin; t < end; ++t, y += kHidden) {
      double largest = 0;
      for (double v : s.x[t]) largest = std::max(largest, std::fabs(v));
      const double bound = 2.0 * (kHidden + kQ + kHidden + kInter) * 0x1p-24 * largest;
      for (size_t i = 0; i < kHidden; ++i) ASSERT_NEAR(y[i], s.x[t][i], bound) << t << ", " << i;
    }
  }
  void compute(Sequence& s) const {
    for (size_t t = 0; t < s.x.size(); ++t) {
      const Row q = attention_input(s, t);
      finish(s.x[t], attended(s, q, t));
    }
  }

  std::mt19937 rng_{9};
  ThreadTeam team_{GetParam()};
  Matrix qkv_, o_, gate_up_, down_;
  DecoderLayer layer_;
  std::unique_ptr<KvCache> cache_ = std::make_unique<KvCache>(config(), 16, FloatType::kF32);
};
INSTANTIATE_TEST_SUITE_P(Workers, Layer, ::testing::Values(1, 3));

TEST_P(Layer, EqualsTheFormulas) {
  Sequence a = sequence(1), b = sequence(45);
  const std::vector<float> y = step({{&b, 0, 45}, {&a, 0, 1}});
  compute(a);
  compute(b);
  expect_rows(y.data(), b, 0, 45);
  expect_rows(y.data() + 45 * kHidden, a, 0, 1);
}

// Three steps, on both sides of a page's end, the second beside another sequence.
TEST_P(Layer, GoesOnInChunks) {
  Sequence a = sequence(70), b = sequence(3);
  const std::vector<float> first = step({{&a, 0, 30}});
  const std::vector<float> second = step({{&b, 0, 3}, {&a, 30, 69}});
  const std::vector<float> third = step({{&a, 69, 70}});
  compute(a);
  compute(b);
  expect_rows(first.data(), a, 0, 30);
  expect_rows(second.data(), b, 0, 3);
  expect_rows(second.data() + 3 * kHidden, a, 30, 69);
  expect_rows(third.data(), a, 69, 70);
}

// One token over several blocks of keys, which the workers share.
TEST_P(Layer, SharesTheKeysOfOneToken) {
  Sequence s = sequence(3 * kernels::kAttentionBlock - 3);
  const size_t last = s.x.size() - 1;
  for (size_t begin = 0; begin < last; begin += 128)
    step({{&s, begin, std::min(last, begin + 128)}});
  const std::vector<float> y = step({{&s, last, last + 1}});
  compute(s);
  expect_rows(y.data(), s, last, last + 1);
}

// The pages hold sat8(rne(x / scale + offset)), and attention reads (q - offset) * scale.
TEST_P(Layer, Int8PagesHoldAndGiveWhatTheFormulasSay) {
  cache_ = std::make_unique<KvCache>(config(), 8, FloatType::kI8);
  KvCacheParams& scales = layer_.kv_params;
  scales = {random(kKv, 0.01f, 0.03f), {}, random(kKv, 0.01f, 0.03f), {}};
  for (float v : random(2 * kKv, -20, 20))
    (scales.k_offset.size() < kKv ? scales.k_offset : scales.v_offset).push_back(std::round(v));
  Sequence s = sequence(40);
  const std::vector<float> first = step({{&s, 0, 33}}), second = step({{&s, 33, 40}});
  for (size_t t = 0; t < 40; ++t) {
    const Row q = attention_input(s, t);
    const size_t page = static_cast<size_t>(s.pages[t / kBlockTokens]) * cache_->page_elements();
    const size_t slot = t % kBlockTokens;
    const int8_t* k = static_cast<const int8_t*>(cache_->k_pool(0)) + page;
    const int8_t* v = static_cast<const int8_t*>(cache_->v_pool(0)) + page;
    for (size_t i = 0; i < kKv; ++i) {
      const size_t head = i / kHeadDim * kHeadDim * kBlockTokens, d = i % kHeadDim;
      const auto check = [&](double& x, int8_t stored, float scale, float offset) {
        const double exact = std::clamp(x / double{scale} + double{offset}, -128.0, 127.0);
        // What float32 makes of x may lie on the other side of a tie, no further.
        ASSERT_NEAR(stored, exact, 0.5 + 1e-3) << t << ", " << i;
        x = (stored - double{offset}) * double{scale};
      };
      check(s.k[t][i], k[head + d * kBlockTokens + slot], scales.k_scale[i], scales.k_offset[i]);
      check(s.v[t][i], v[head + slot * kHeadDim + d], scales.v_scale[i], scales.v_offset[i]);
    }
    finish(s.x[t], attended(s, q, t));
  }
  expect_rows(first.data(), s, 0, 33);
  expect_rows(second.data(), s, 33, 40);
}

}  // namespace
}  // namespace octet
