// The reference kernels: scalar, in the plainest form of each formula. They are the oracle for
// every other set and run where there is nothing better.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "src/base/float16.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::ref {
namespace {

constexpr size_t kPanel = 4;

// Element i at p, aligned to bytes.
template <typename T>
T element(const void* p, size_t i) {
  T value;
  std::memcpy(&value, static_cast<const char*>(p) + i * sizeof(T), sizeof(T));
  return value;
}

float load(const void* p, FloatType type, size_t i) {
  switch (type) {
    case FloatType::kF32:
      return element<float>(p, i);
    case FloatType::kF16:
      return to_float(element<f16>(p, i));
    case FloatType::kBF16:
      return to_float(element<bf16>(p, i));
    case FloatType::kI8:
      return element<int8_t>(p, i);
  }
  return 0;
}

// q within [lowest, 127]; NaN gives the lowest, as the vector sets' minimum and maximum do.
int8_t saturate(float q, float lowest = -128.0f) {
  return static_cast<int8_t>(q > lowest ? (q < 127.0f ? q : 127.0f) : lowest);
}

void store(void* p, FloatType type, size_t i, float v) {
  switch (type) {
    case FloatType::kF32:
      static_cast<float*>(p)[i] = v;
      return;
    case FloatType::kF16:
      static_cast<f16*>(p)[i] = to_f16(v);
      return;
    case FloatType::kBF16:
      static_cast<bf16*>(p)[i] = to_bf16(v);
      return;
    case FloatType::kI8:
      static_cast<int8_t*>(p)[i] = saturate(std::nearbyint(v));
      return;
  }
}

// Packed like the file: [n][k], rows beyond n zero.
void int8_pack(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
               int8_t* packed) noexcept {
  for (size_t j = begin * kPanel; j < end * kPanel; ++j)
    for (size_t i = 0; i < k; ++i) packed[j * k + i] = j < n ? w[j * k + i] : int8_t{0};
}

void quantize(const float* x, size_t k, float scale, float offset, void* xq) noexcept {
  for (size_t i = 0; i < k; ++i)
    static_cast<int8_t*>(xq)[i] = saturate(std::nearbyint(x[i] / scale) + offset);
}

float quantize_token(const float* x, size_t k, void* xq) noexcept {
  float top = 0;
  for (size_t i = 0; i < k; ++i)
    if (std::fabs(x[i]) > top) top = std::fabs(x[i]);
  const float scale = top / 127.0f > 0 ? top / 127.0f : 1.0f;
  for (size_t i = 0; i < k; ++i)
    static_cast<int8_t*>(xq)[i] = saturate(std::nearbyint(x[i] / scale), -127.0f);
  return scale;
}

void int8_gemm(const Int8GemmArgs& g) noexcept {
  const size_t n_end = std::min(g.n, g.panel_end * kPanel);
  for (size_t r = 0; r < g.m; ++r) {
    const int8_t* a = static_cast<const int8_t*>(g.a) + r * g.lda;
    for (size_t j = g.panel_begin * kPanel; j < n_end; ++j) {
      // Modulo 2^32, as vector registers add; the final sum of a good checkpoint fits.
      uint32_t acc = static_cast<uint32_t>(g.bias[j]);
      for (size_t i = 0; i < g.k; ++i)
        acc += static_cast<uint32_t>(int32_t{a[i]} * int32_t{g.packed[j * g.k + i]});
      if (g.sums != nullptr) {
        g.sums[r * g.ldy + j] = static_cast<int32_t>(acc);
        continue;
      }
      float y = static_cast<float>(static_cast<int32_t>(acc)) * g.scale[j];
      if (g.row_scale != nullptr) y *= g.row_scale[r];
      if (g.float_bias != nullptr) y += g.float_bias[j];
      float& out = g.y[r * g.ldy + j];
      out = g.accumulate ? out + y : y;
    }
  }
}

void float_pack(const void* w, FloatType type, size_t n, size_t k, size_t begin, size_t end,
                void* packed) noexcept {
  for (size_t j = begin * kPanel; j < end * kPanel; ++j)
    for (size_t i = 0; i < k; ++i)
      store(packed, type, j * k + i, j < n ? load(w, type, j * k + i) : 0.0f);
}

void float_gemm(const FloatGemmArgs& g) noexcept {
  const size_t n_end = std::min(g.n, g.panel_end * kPanel);
  for (size_t r = 0; r < g.m; ++r) {
    const float* a = g.a + r * g.lda;
    for (size_t j = g.panel_begin * kPanel; j < n_end; ++j) {
      float acc = 0;
      const float offset = g.offset != nullptr ? g.offset[j] : 0.0f;
      for (size_t i = 0; i < g.k; ++i)
        acc = std::fma(a[i], load(g.packed, g.type, j * g.k + i) - offset, acc);
      if (g.scale != nullptr) acc *= g.scale[j];
      if (g.bias != nullptr) acc += g.bias[j];
      float& out = g.y[r * g.ldy + j];
      out = g.accumulate ? out + acc : acc;
    }
  }
}

void float_row(const void* packed, FloatType type, size_t k, size_t row, float* out) noexcept {
  for (size_t i = 0; i < k; ++i) out[i] = load(packed, type, row * k + i);
}

void hadamard(float* x, size_t n) noexcept {
  for (size_t step = 1; step < n; step *= 2)
    for (size_t i = 0; i < n; i += 2 * step)
      for (size_t j = i; j < i + step; ++j) {
        const float a = x[j], b = x[j + step];
        x[j] = a + b;
        x[j + step] = a - b;
      }
  const float norm = 1.0f / std::sqrt(static_cast<float>(n));
  for (size_t i = 0; i < n; ++i) x[i] *= norm;
}

RowCodes int8_codes(const float* x, size_t k, int8_t* q) noexcept {
  const float scale = quantize_token(x, k, q);
  float squares = 0, errors = 0;
  for (size_t i = 0; i < k; ++i) {
    const float error = std::fma(q[i], -scale, x[i]);
    squares += x[i] * x[i];
    errors += error * error;
  }
  return {scale, std::sqrt(squares), std::sqrt(errors)};
}

void add_bounds(float* y, const float* a, const float* b, float x, float e, size_t n) noexcept {
  for (size_t i = 0; i < n; ++i) y[i] += std::fma(x, a[i], e * b[i]);
}

void block_maxima(const float* x, size_t n, float* maxima) noexcept {
  for (size_t i = 0; i < n; i += kMaximumBlock)
    *maxima++ = *std::max_element(x + i, x + std::min(n, i + kMaximumBlock));
}

void rms_norm(const float* x, const float* w, const float* b, size_t n, float eps,
              float* y) noexcept {
  float sum = 0;
  for (size_t i = 0; i < n; ++i) sum += x[i] * x[i];
  const float r = 1.0f / std::sqrt(sum / static_cast<float>(n) + eps);
  for (size_t i = 0; i < n; ++i) y[i] = x[i] * r * w[i] + (b != nullptr ? b[i] : 0.0f);
}

void rope(float* x, const float* cos, const float* sin, size_t head_dim) noexcept {
  const size_t half = head_dim / 2;
  for (size_t i = 0; i < half; ++i) {
    const float a = x[i], b = x[i + half];
    x[i] = a * cos[i] - b * sin[i];
    x[i + half] = b * cos[i] + a * sin[i];
  }
}

void silu_mul(const float* gate, const float* up, size_t n, float* out) noexcept {
  for (size_t i = 0; i < n; ++i) out[i] = gate[i] / (1.0f + std::exp(-gate[i])) * up[i];
}

void softmax_weights(float* x, size_t n, float max, float inverse) noexcept {
  for (size_t i = 0; i < n; ++i) {
    const float e = (x[i] - max) * inverse;
    x[i] = e > -87.0f ? std::exp(e) : 0.0f;
  }
}

void kv_store(const float* k, const float* v, size_t head_dim, size_t slot, FloatType type,
              void* k_page, void* v_page) noexcept {
  for (size_t d = 0; d < head_dim; ++d) {
    store(k_page, type, d * kBlockTokens + slot, k[d]);
    store(v_page, type, slot * head_dim + d, v[d]);
  }
}

// The state of row `row` after the keys of a block alone: sums [head_dim], maximum of the scores,
// sum of the weights.
void block_state(const AttentionArgs& g, size_t row, size_t block, float* state) {
  const size_t token = row / g.group, hd = g.head_dim;
  const float* q = g.q + token * g.ldq + row % g.group * hd;
  const size_t begin = block * kAttentionBlock;
  const size_t end = std::min(begin + kAttentionBlock, g.position + token + 1);
  const auto head = [&](size_t pos) {  // first element of the token's KV head in its page
    return static_cast<size_t>(g.blocks[pos / kBlockTokens]) * g.page_elements +
           g.kv_head * hd * kBlockTokens;
  };
  float p[kAttentionBlock];
  float& max = state[hd] = -INFINITY;
  float& sum = state[hd + 1] = 0;
  for (size_t s = begin; s < end; ++s) {
    float dot = 0;
    for (size_t d = 0; d < hd; ++d)
      dot += q[d] * load(g.k_pool, g.type, head(s) + d * kBlockTokens + s % kBlockTokens);
    p[s - begin] = dot * g.scale;
    max = std::max(max, p[s - begin]);
  }
  for (size_t s = begin; s < end; ++s) sum += p[s - begin] = std::exp(p[s - begin] - max);
  for (size_t d = 0; d < hd; ++d) {
    state[d] = 0;
    for (size_t s = begin; s < end; ++s)
      state[d] += p[s - begin] * load(g.v_pool, g.type, head(s) + s % kBlockTokens * hd + d);
  }
}

// Adds a state to the sum of those before it.
void join(const float* state, size_t hd, float* sums) {
  const float max = std::max(sums[hd], state[hd]);
  if (max == -INFINITY) return;
  const float fade = std::exp(sums[hd] - max), part = std::exp(state[hd] - max);
  for (size_t d = 0; d < hd; ++d) sums[d] = sums[d] * fade + state[d] * part;
  sums[hd] = max;
  sums[hd + 1] = sums[hd + 1] * fade + state[hd + 1] * part;
}

void begin_sums(std::vector<float>& sums) {
  std::fill(sums.begin(), sums.end(), 0.0f);
  sums[sums.size() - 2] = -INFINITY;
}

void finish_row(const AttentionArgs& g, size_t row, const float* sums) {
  float* out = g.out + row / g.group * g.ldo + row % g.group * g.head_dim;
  for (size_t d = 0; d < g.head_dim; ++d) out[d] = sums[d] / sums[g.head_dim + 1];
}

float* state_of(const AttentionArgs& g, size_t block, size_t row) {
  return g.states + (block * g.tokens * g.group + row) * (g.head_dim + 2);
}

void attention_merge(const AttentionArgs& g) noexcept {
  const size_t hd = g.head_dim;
  std::vector<float> sums(hd + 2);
  for (size_t row = 0; row < g.tokens * g.group; ++row) {
    begin_sums(sums);
    for (size_t b = 0; b < g.block_end; ++b) join(state_of(g, b, row), hd, sums.data());
    finish_row(g, row, sums.data());
  }
}

void attention(const AttentionArgs& g) noexcept {
  const size_t rows = g.tokens * g.group, hd = g.head_dim;
  if (g.states != nullptr) {
    for (size_t b = g.block_begin; b < g.block_end; ++b)
      for (size_t row = 0; row < rows; ++row) block_state(g, row, b, state_of(g, b, row));
    return;
  }
  std::vector<float> sums(hd + 2), state(hd + 2);
  for (size_t row = 0; row < rows; ++row) {
    begin_sums(sums);
    for (size_t b = 0; b * kAttentionBlock < g.position + row / g.group + 1; ++b) {
      block_state(g, row, b, state.data());
      join(state.data(), hd, sums.data());
    }
    finish_row(g, row, sums.data());
  }
}

float read_memory(const float* data, size_t count) noexcept {
  float sum = 0;
  for (size_t i = 0; i < count; ++i) sum += data[i];
  return sum;
}

double int8_peak(size_t steps) noexcept {
  volatile uint32_t seed = 3;
  uint32_t acc = 0;  // wraps
  const uint32_t v = seed;
  for (size_t i = 0; i < steps; ++i) acc += v * static_cast<uint32_t>(i);
  seed = acc;
  return 2.0 * static_cast<double>(steps);
}

double float_peak(size_t steps) noexcept {
  volatile float seed = 0.5f;
  float acc = 0;
  const float v = seed;
  for (size_t i = 0; i < steps; ++i) acc = std::fma(v, acc, v);
  seed = acc;
  return 2.0 * static_cast<double>(steps);
}

}  // namespace

const KernelTable& table() noexcept {
  static constexpr KernelTable t = {
      .name = "ref",
      .int8_panel = kPanel,
      .int8_k_align = 1,
      .act_bytes = 1,
      .act_shift = 0,
      .int8_pack = int8_pack,
      .quantize = quantize,
      .quantize_token = quantize_token,
      .int8_gemm = int8_gemm,
      .float_panel = kPanel,
      .float_pack = float_pack,
      .float_gemm = float_gemm,
      .float_row = float_row,
      .rms_norm = rms_norm,
      .rope = rope,
      .silu_mul = silu_mul,
      .softmax_weights = softmax_weights,
      .kv_store = kv_store,
      .attention = attention,
      .attention_merge = attention_merge,
      .hadamard = hadamard,
      .int8_codes = int8_codes,
      .add_bounds = add_bounds,
      .block_maxima = block_maxima,
      .int8_peak = int8_peak,
      .float_peak = float_peak,
      .read_memory = read_memory,
  };
  return t;
}

}  // namespace octet::kernels::ref
