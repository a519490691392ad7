// AVX2. int8: activations widened to int16 by the quantizer, weights widened in registers,
// vpmaddwd: exact for every input. (vpmaddubsw would saturate pair sums at 32767; kernels.md says
// by how much that costs others.) Panels are [k/2][16][2]: 32 bytes hold 2 inputs of 16 channels.
#include "src/kernels/avx2/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::avx2 {
namespace {

constexpr size_t kPanel = 16;
constexpr size_t kAttentionRows = 6;
constexpr size_t kDirectRows = 8;
constexpr size_t kRegisters = 16;
constexpr size_t kFloatRows = 6;  // 6 x 2 accumulators + 2 weights + 1 broadcast of 16 registers
constexpr size_t kFloatVecs = 2;

// Needed by the others.
#include "src/kernels/simd/ops.inl"

#include "src/kernels/simd/attention.inl"
#include "src/kernels/simd/float_gemm.inl"
#include "src/kernels/simd/int8.inl"
#include "src/kernels/simd/screen.inl"

void int8_pack(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
               int8_t* packed) noexcept {
  pack_int8_panels<kPanel, 2>(w, n, k, begin, end, packed);
}

void quantize_row(const float* x, size_t k, float scale, float offset, float lowest, void* xq) {
  int16_t* out = static_cast<int16_t*>(xq);
  const V s = set1(scale), o = set1(offset), lo = set1(lowest), hi = set1(127.0f);
  for (size_t i = 0; i < k; i += kLanes) {
    const size_t n = k - i < kLanes ? k - i : kLanes;
    const V q = min(max(add(round(div(load_head(x + i, n), s)), o), lo), hi);
    const __m256i d = _mm256_cvtps_epi32(q);
    const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
    if (n == kLanes) {
      _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), h);
    } else {
      alignas(16) int16_t rest[8];
      _mm_store_si128(reinterpret_cast<__m128i*>(rest), h);
      __builtin_memcpy(out + i, rest, n * 2);
    }
  }
  if (k % 2 != 0) out[k] = 0;
}

void quantize(const float* x, size_t k, float scale, float offset, void* xq) noexcept {
  quantize_row(x, k, scale, offset, -128.0f, xq);
}

float quantize_token(const float* x, size_t k, void* xq) noexcept {
  const float scale = token_scale(x, k);
  quantize_row(x, k, scale, 0, -127.0f, xq);
  return scale;
}

template <size_t kRows>
void int8_tile(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j0, size_t steps) {
  __m256i c[kRows][2];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v)
      c[r][v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(g.bias + j0 + v * 8));
  const int16_t* a = static_cast<const int16_t*>(g.a) + row * g.lda;
  for (size_t i = 0; i < steps; ++i, b += 32) {
    if constexpr (kRows == 1) __builtin_prefetch(b + 2048);
    const __m256i w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)));
    const __m256i w1 =
        _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + 16)));
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      int32_t pair;
      __builtin_memcpy(&pair, a + r * g.lda + i * 2, 4);
      const __m256i x = _mm256_set1_epi32(pair);
      c[r][0] = _mm256_add_epi32(c[r][0], _mm256_madd_epi16(x, w0));
      c[r][1] = _mm256_add_epi32(c[r][1], _mm256_madd_epi16(x, w1));
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v)
      if (g.sums != nullptr)
        int8_store(g, _mm256_castsi256_ps(c[r][v]), row + r, j0 + v * 8);
      else
        int8_finish(g, _mm256_cvtepi32_ps(c[r][v]), row + r, j0 + v * 8);
}

template <size_t kRows>
size_t int8_step(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j0, size_t steps) {
  if constexpr (kRows > 1)
    if (g.m - row < kRows) return int8_step<kRows - 1>(g, b, row, j0, steps);
  int8_tile<kRows>(g, b, row, j0, steps);
  return kRows;
}

void int8_gemm(const Int8GemmArgs& g) noexcept {
  const size_t steps = (g.k + 1) / 2;
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) {
    const int8_t* b = g.packed + p * steps * 32;
    for (size_t row = 0; row < g.m;) row += int8_step<6>(g, b, row, p * kPanel, steps);
  }
}

double int8_peak(size_t steps) noexcept {
  __m256i c[12];
#pragma GCC unroll 12
  for (auto& v : c) v = _mm256_setzero_si256();
  const __m256i b = _mm256_set1_epi16(5);
  for (size_t i = 0; i < steps; ++i) {
    // Each sum is its own factor, so that no product is computed twice or ahead of its turn.
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) c[j] = _mm256_add_epi32(c[j], _mm256_madd_epi16(c[j], b));
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) __asm__ volatile("" : "+x"(c[j]));
  }
  __m256i total = _mm256_setzero_si256();
#pragma GCC unroll 12
  for (const auto& v : c) total = _mm256_add_epi32(total, v);
  volatile int sink = _mm256_extract_epi32(total, 0);
  (void)sink;
  return 2.0 * 12 * 16 * static_cast<double>(steps);
}

}  // namespace

const KernelTable& table() noexcept {
  static constexpr KernelTable t = {
      .name = "avx2",
      .int8_panel = kPanel,
      .int8_k_align = 2,
      .act_bytes = 2,
      .act_shift = 0,
      .int8_pack = int8_pack,
      .quantize = quantize,
      .quantize_token = quantize_token,
      .int8_gemm = int8_gemm,
      .float_panel = kFloatPanel,
      .float_pack = float_pack,
      .float_gemm = float_gemm,
      .float_row = float_row,
      .rms_norm = rms_norm,
      .rope = rope,
      .silu_mul = silu_mul,
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

}  // namespace octet::kernels::avx2
