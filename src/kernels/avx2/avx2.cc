// AVX2. int8: activations widened to int16 by the quantizer, weights widened in registers,
// vpmaddwd: exact for every input. (vpmaddubsw would saturate pair sums at 32767; kernels.md says
// by how much that costs others.) Panels are [k/2][16][2]: 32 bytes hold 2 inputs of 16 channels.
#include "src/kernels/avx2/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::avx2 {
namespace {
using Activation = int16_t;
constexpr int32_t kShift = 0;
constexpr size_t kUnit = 2, kAlign = 2;
constexpr size_t kSums = 2, kPanel = kSums * kLanes;
constexpr size_t kGroup = kPanel, kDepth = kUnit;
constexpr size_t kAhead = 2048;
constexpr size_t kAttentionRows = 6;
constexpr size_t kDirectRows = 8;
constexpr size_t kRegisters = 16;
constexpr size_t kFloatRows = 6;  // 6 x 2 accumulators + 2 weights + 1 broadcast of 16 registers
constexpr size_t kFloatVecs = 2;

inline void store_activations(int16_t* out, V q, size_t n) {
  const __m256i d = _mm256_cvtps_epi32(q);
  const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
  if (n == kLanes) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out), h);
  } else {
    alignas(16) int16_t rest[kLanes];
    _mm_store_si128(reinterpret_cast<__m128i*>(rest), h);
    __builtin_memcpy(out, rest, n * sizeof(*out));
  }
}
inline I weights_i(const int8_t* b, size_t v) {
  return _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b + v * 16)));
}
inline I multiply_add_i(I c, I x, I w) { return _mm256_add_epi32(c, _mm256_madd_epi16(x, w)); }

// Needed by the others.
#include "src/kernels/simd/ops.inl"

#include "src/kernels/simd/attention.inl"
#include "src/kernels/simd/float_gemm.inl"
#include "src/kernels/simd/int8.inl"
#include "src/kernels/simd/int8_gemm.inl"
#include "src/kernels/simd/int8_pack.inl"
#include "src/kernels/simd/screen.inl"

}  // namespace

const KernelTable& table() noexcept {
  static constexpr KernelTable t = {
      .name = "avx2",
      .int8_panel = kPanel,
      .int8_k_align = kAlign,
      .act_bytes = sizeof(Activation),
      .act_shift = kShift,
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

}  // namespace octet::kernels::avx2
