// The vector of AVX-512: 16 floats. Same names as avx2/vec.h; used by the texts in ../simd/.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#ifndef OCTET_REGISTER
#define OCTET_REGISTER "x"  // emulated ones (../emulated/) lie in memory
#endif

namespace octet::kernels::avx512 {

using V = __m512;
inline constexpr size_t kLanes = 16;

static inline V zero() { return _mm512_setzero_ps(); }
static inline V set1(float v) { return _mm512_set1_ps(v); }
static inline V load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, V v) { _mm512_storeu_ps(p, v); }
static inline __mmask16 head_mask(size_t n) { return static_cast<__mmask16>((1u << n) - 1u); }
static inline V load_head(const float* p, size_t n) {  // first n lanes, rest zero
  return _mm512_maskz_loadu_ps(head_mask(n), p);
}
static inline void store_head(float* p, V v, size_t n) {
  _mm512_mask_storeu_ps(p, head_mask(n), v);
}
static inline V from_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
static inline V from_f16(const uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
static inline uint16_t to_f16(float v) {
  return static_cast<uint16_t>(_cvtss_sh(v, _MM_FROUND_TO_NEAREST_INT));
}
static inline V from_i8(const int8_t* p) {
  return _mm512_cvtepi32_ps(
      _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
// The first n lanes, whole numbers within int8.
static inline void store_i8(int8_t* p, V v, size_t n) {
  _mm_mask_storeu_epi8(p, head_mask(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}
static inline V add(V a, V b) { return _mm512_add_ps(a, b); }
static inline V sub(V a, V b) { return _mm512_sub_ps(a, b); }
static inline V mul(V a, V b) { return _mm512_mul_ps(a, b); }
static inline V div(V a, V b) { return _mm512_div_ps(a, b); }
static inline V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
static inline V max(V a, V b) { return _mm512_max_ps(a, b); }
static inline V min(V a, V b) { return _mm512_min_ps(a, b); }
static inline V round(V a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// a * 2^n for integral n in [-126, 127].
static inline V scale_by_pow2(V a, V n) {
  const __m512i e =
      _mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23);
  return _mm512_mul_ps(a, _mm512_castsi512_ps(e));
}
// Lane i takes the value of lane i ^ by.
static inline V swap_lanes(V v, size_t by) {
  alignas(64) int32_t from[kLanes];
  for (size_t i = 0; i < kLanes; ++i) from[i] = static_cast<int32_t>(i ^ by);
  return _mm512_permutexvar_ps(_mm512_loadu_si512(from), v);
}
static inline float sum(V v) { return _mm512_reduce_add_ps(v); }
static inline float maximum(V v) { return _mm512_reduce_max_ps(v); }
// Makes the optimizer believe that v is used and has changed.
template <typename T>
static inline void keep(T& v) {
  __asm__ volatile("" : "+" OCTET_REGISTER(v));
}

using I = __m512i;  // 16 int32, or what is multiplied to give them
static inline I load_i(const void* p) { return _mm512_loadu_si512(p); }
static inline I set1_i(int32_t v) { return _mm512_set1_epi32(v); }
static inline I add_i(I a, I b) { return _mm512_add_epi32(a, b); }
static inline V to_floats(I v) { return _mm512_cvtepi32_ps(v); }
static inline V bits_of(I v) { return _mm512_castsi512_ps(v); }
static inline I shift_right_16(I v) { return _mm512_srli_epi32(v, 16); }
static inline void store_words(void* p, I v) {  // the low 16 bits of every lane
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(v));
}
static inline int32_t first_lane(I v) { return _mm512_cvtsi512_si32(v); }

}  // namespace octet::kernels::avx512
