// The vector of AVX2: 8 floats. Same names as avx512/vec.h; used by the texts in ../simd/.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace octet::kernels::avx2 {

using V = __m256;
inline constexpr size_t kLanes = 8;

static inline V zero() { return _mm256_setzero_ps(); }
static inline V set1(float v) { return _mm256_set1_ps(v); }
static inline V load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, V v) { _mm256_storeu_ps(p, v); }
static inline __m256i head_mask(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline V load_head(const float* p, size_t n) {  // first n lanes, rest zero
  return _mm256_maskload_ps(p, head_mask(n));
}
static inline void store_head(float* p, V v, size_t n) { _mm256_maskstore_ps(p, head_mask(n), v); }
static inline V from_bf16(const uint16_t* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(
      _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
static inline V from_f16(const uint16_t* p) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
static inline uint16_t to_f16(float v) {
  return static_cast<uint16_t>(_cvtss_sh(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline V from_i8(const int8_t* p) {
  return _mm256_cvtepi32_ps(
      _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
// The first n lanes, whole numbers within int8.
static inline void store_i8(int8_t* p, V v, size_t n) {
  const __m256i d = _mm256_cvtps_epi32(v);
  const __m128i h = _mm_packs_epi32(_mm256_castsi256_si128(d), _mm256_extracti128_si256(d, 1));
  const int64_t bytes = _mm_cvtsi128_si64(_mm_packs_epi16(h, h));
  if (n == kLanes)
    __builtin_memcpy(p, &bytes, kLanes);
  else
    __builtin_memcpy(p, &bytes, n);
}
static inline V add(V a, V b) { return _mm256_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm256_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm256_mul_ps(a, b); }
static inline V div(V a, V b) { return _mm256_div_ps(a, b); }
static inline V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
static inline V max(V a, V b) { return _mm256_max_ps(a, b); }
static inline V min(V a, V b) { return _mm256_min_ps(a, b); }
static inline V round(V a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a * 2^n for integral n in [-126, 127].
static inline V scale_by_pow2(V a, V n) {
  const __m256i e =
      _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23);
  return _mm256_mul_ps(a, _mm256_castsi256_ps(e));
}
// Lane i takes the value of lane i ^ by.
static inline V swap_lanes(V v, size_t by) {
  const __m256i from = _mm256_xor_si256(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7),
                                        _mm256_set1_epi32(static_cast<int>(by)));
  return _mm256_permutevar8x32_ps(v, from);
}
static inline float sum(V v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
static inline float maximum(V v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}
// Makes the optimizer believe that v is used and has changed.
template <typename T>
static inline void keep(T& v) {
  __asm__ volatile("" : "+x"(v));
}

using I = __m256i;  // 8 int32, or what is multiplied to give them
static inline I load_i(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
static inline I set1_i(int32_t v) { return _mm256_set1_epi32(v); }
static inline I add_i(I a, I b) { return _mm256_add_epi32(a, b); }
static inline V to_floats(I v) { return _mm256_cvtepi32_ps(v); }
static inline V bits_of(I v) { return _mm256_castsi256_ps(v); }
static inline int32_t first_lane(I v) { return _mm256_cvtsi256_si32(v); }

}  // namespace octet::kernels::avx2
