// AVX-VNNI: AVX2 with the 256-bit vpdpbusd of processors without AVX-512 (Alder Lake, Sierra Forest
// and later). int8 as in avx512; all else is avx2's. Panels are [k/4][16][4]: 64 bytes hold 4
// inputs of 16 channels.
#include "src/kernels/avx2/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::avxvnni {
namespace {

using namespace avx2;  // NOLINT: its vectors

using Activation = uint8_t;
constexpr int32_t kShift = 128;
constexpr size_t kUnit = 4, kAlign = 4;
constexpr size_t kSums = 2, kPanel = kSums * kLanes;
constexpr size_t kGroup = kPanel, kDepth = kUnit;
constexpr size_t kAhead = 2048;

inline void store_activations(uint8_t* out, V q, size_t n) {
  const I d = _mm256_add_epi32(_mm256_cvtps_epi32(q), set1_i(kShift));
  const __m128i h = _mm_packus_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
  const int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(h, h));
  if (n == kLanes)
    __builtin_memcpy(out, &bytes, kLanes);
  else
    __builtin_memcpy(out, &bytes, n);
}
inline I weights_i(const int8_t* b, size_t v) { return load_i(b + v * 32); }
inline I multiply_add_i(I c, I x, I w) { return _mm256_dpbusd_avx_epi32(c, x, w); }

#include "src/kernels/simd/int8.inl"
#include "src/kernels/simd/int8_gemm.inl"
#include "src/kernels/simd/int8_pack.inl"

}  // namespace

const KernelTable& table() noexcept {
  static const KernelTable t = [] {
    KernelTable own = avx2::table();
    own.name = "avxvnni";
    own.int8_panel = kPanel;
    own.int8_k_align = kAlign;
    own.act_bytes = sizeof(Activation);
    own.act_shift = kShift;
    own.int8_pack = int8_pack;
    own.quantize = quantize;
    own.quantize_token = quantize_token;
    own.int8_gemm = int8_gemm;
    own.int8_peak = int8_peak;
    return own;
  }();
  return t;
}

}  // namespace octet::kernels::avxvnni
