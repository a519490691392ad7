// AVX-512 with VNNI. int8: u8 activations (shift 128) times s8 weights, vpdpbusd, which does not
// saturate; the 2^32 wrap of intermediate sums is harmless because the final sum fits (k < 131072).
// Panels are [k/4][64][4]: one zmm holds 4 inputs of 16 channels, four zmm a step, read in order.
#include "src/kernels/avx512/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::avx512 {
namespace {

constexpr size_t kPanel = 64;
constexpr size_t kAttentionRows = 12;
constexpr size_t kDirectRows = 12;
constexpr size_t kRegisters = 32;
constexpr size_t kFloatRows = 8;  // 8 x 3 accumulators + 3 weights + 1 broadcast of 32 registers
constexpr size_t kFloatVecs = 3;

// Needed by the others.
#include "src/kernels/simd/ops.inl"

#include "src/kernels/simd/attention.inl"
#include "src/kernels/simd/float_gemm.inl"
#include "src/kernels/simd/int8.inl"
#include "src/kernels/simd/screen.inl"

void int8_pack(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
               int8_t* packed) noexcept {
  pack_int8_panels<kPanel, 4>(w, n, k, begin, end, packed);
}

void quantize_row(const float* x, size_t k, float scale, float offset, float lowest, void* xq) {
  uint8_t* out = static_cast<uint8_t*>(xq);
  const V s = set1(scale), o = set1(offset), lo = set1(lowest), hi = set1(127.0f);
  const __m512i shift = _mm512_set1_epi32(128);
  for (size_t i = 0; i < k; i += kLanes) {
    const size_t n = k - i < kLanes ? k - i : kLanes;
    const V q = min(max(add(round(div(load_head(x + i, n), s)), o), lo), hi);
    const __m512i u = _mm512_add_epi32(_mm512_cvtps_epi32(q), shift);
    _mm_mask_storeu_epi8(out + i, head_mask(n), _mm512_cvtepi32_epi8(u));
  }
  for (size_t i = k; i % 4 != 0; ++i) out[i] = 0;
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
  __m512i c[kRows][4];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) c[r][v] = _mm512_loadu_si512(g.bias + j0 + v * 16);
  const uint8_t* a = static_cast<const uint8_t*>(g.a) + row * g.lda;
  for (size_t i = 0; i < steps; ++i, b += 256) {
    __m512i w[4];
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v) w[v] = _mm512_loadu_si512(b + v * 64);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      int32_t quad;
      __builtin_memcpy(&quad, a + r * g.lda + i * 4, 4);
      const __m512i x = _mm512_set1_epi32(quad);
#pragma GCC unroll 4
      for (size_t v = 0; v < 4; ++v) c[r][v] = _mm512_dpbusd_epi32(c[r][v], x, w[v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < 4; ++v)
      if (g.sums != nullptr)
        int8_store(g, _mm512_castsi512_ps(c[r][v]), row + r, j0 + v * 16);
      else
        int8_finish(g, _mm512_cvtepi32_ps(c[r][v]), row + r, j0 + v * 16);
}

template <size_t kRows>
size_t int8_step(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j0, size_t steps) {
  if constexpr (kRows > 1)
    if (g.m - row < kRows) return int8_step<kRows - 1>(g, b, row, j0, steps);
  int8_tile<kRows>(g, b, row, j0, steps);
  return kRows;
}

void int8_gemm(const Int8GemmArgs& g) noexcept {
  const size_t steps = (g.k + 3) / 4;
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) {
    const int8_t* b = g.packed + p * steps * 256;
    for (size_t row = 0; row < g.m;) row += int8_step<6>(g, b, row, p * kPanel, steps);
  }
}

double int8_peak(size_t steps) noexcept {
  __m512i c[12];
#pragma GCC unroll 12
  for (auto& v : c) v = _mm512_setzero_si512();
  const __m512i a = _mm512_set1_epi8(3), b = _mm512_set1_epi8(5);
  for (size_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) c[j] = _mm512_dpbusd_epi32(c[j], a, b);
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) keep(c[j]);
  }
  __m512i total = _mm512_setzero_si512();
#pragma GCC unroll 12
  for (const auto& v : c) total = _mm512_add_epi32(total, v);
  volatile int sink = _mm512_reduce_add_epi32(total);
  (void)sink;
  return 2.0 * 12 * 64 * static_cast<double>(steps);
}

}  // namespace

const KernelTable& table() noexcept {
  static constexpr KernelTable t = {
      .name = "avx512vnni",
      .int8_panel = kPanel,
      .int8_k_align = 4,
      .act_bytes = 1,
      .act_shift = 128,
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

}  // namespace octet::kernels::avx512
