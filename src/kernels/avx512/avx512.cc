// AVX-512 with VNNI. int8: u8 activations (shift 128) times s8 weights, vpdpbusd, which does not
// saturate; the 2^32 wrap of intermediate sums is harmless because the final sum fits (k < 131072).
// Panels are [k/4][64][4]: one zmm holds 4 inputs of 16 channels, four zmm a step, read in order.
#include "src/kernels/avx512/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::avx512 {
namespace {

constexpr size_t kAttentionRows = 12;
constexpr size_t kDirectRows = 12;
constexpr size_t kRegisters = 32;
constexpr size_t kFloatRows = 8;  // 8 x 3 accumulators + 3 weights + 1 broadcast of 32 registers
constexpr size_t kFloatVecs = 3;

// Needed by the others.
#include "src/kernels/simd/ops.inl"

#include "src/kernels/avx512/vnni.inl"

constexpr size_t kSums = 4, kPanel = kSums * kLanes;
constexpr size_t kGroup = kPanel, kDepth = kUnit, kAlign = kUnit;
constexpr size_t kAhead = 0;

inline I weights_i(const int8_t* b, size_t v) { return load_i(b + v * 64); }

#include "src/kernels/simd/attention.inl"
#include "src/kernels/simd/float_gemm.inl"
#include "src/kernels/simd/int8.inl"

#include "src/kernels/avx512/pack.inl"
#include "src/kernels/simd/int8_gemm.inl"
#include "src/kernels/simd/screen.inl"

// Panels [k][kFloatPanel] of 16 or 32 bits; the rest is float_pack's.
void float_pack_transposing(const void* w, FloatType type, size_t n, size_t k, size_t begin,
                            size_t end, void* packed) noexcept {
  if (type == FloatType::kI8) return float_pack(w, type, n, k, begin, end, packed);
  const size_t size = type == FloatType::kF32 ? 4 : 2;
  I rows[kLanes];
  for (size_t p = begin; p < end; ++p)
    for (size_t j = 0; j < kFloatPanel; j += kLanes)
      for (size_t i = 0; i < k; i += sizeof(I) / size) {
        load_rows(static_cast<const char*>(w), n, k * size, p * kFloatPanel + j, i * size, rows);
        transpose(rows);
        char* to = static_cast<char*>(packed) + ((p * k + i) * kFloatPanel + j) * size;
        const size_t left = k - i, row = kFloatPanel * size;
        for (size_t u = 0; u < kLanes; ++u)
          if (size == 4 && u < left) {
            store(reinterpret_cast<float*>(to + u * row), bits_of(rows[u]));
          } else if (size == 2) {
            if (2 * u < left) store_words(to + 2 * u * row, rows[u]);
            if (2 * u + 1 < left) store_words(to + (2 * u + 1) * row, shift_right_16(rows[u]));
          }
      }
}

}  // namespace

const KernelTable& table() noexcept {
  static constexpr KernelTable t = {
      .name = "avx512vnni",
      .int8_panel = kPanel,
      .int8_k_align = kAlign,
      .act_bytes = sizeof(Activation),
      .act_shift = kShift,
      .int8_pack = int8_pack_transposing,
      .quantize = quantize,
      .quantize_token = quantize_token,
      .int8_gemm = int8_gemm,
      .float_panel = kFloatPanel,
      .float_pack = float_pack_transposing,
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

}  // namespace octet::kernels::avx512
