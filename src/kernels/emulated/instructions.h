// The instructions that avx512.cc, amx.cc and avxvnni.cc use, written out lane by lane in the
// language (Intel's intrinsics guide says what each does): for testing the set on machines that
// lack it. Include after <immintrin.h>, whose types these share.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace octet::kernels::emulated {

// An emulated set is the one of its source, by another name. (kernels.h comes after the renaming of
// the sets' namespaces, so KernelTable is not known here.)
template <typename Table>
static inline Table named(Table t, const char* name) {
  t.name = name;
  return t;
}

template <typename To, typename From>
static inline To bits(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To out;
  std::memcpy(&out, &v, sizeof(out));
  return out;
}

struct Ints {
  int32_t of[16];
};
struct Words {
  uint16_t of[16];
};
struct Bytes {
  uint8_t of[64];
};
struct Small {
  int8_t of[16];
};
struct Floats {
  float of[16];
};

template <typename Out, typename To, typename F>
static inline Out lanes(F f) {
  To to;
  for (size_t i = 0; i < 16; ++i) to.of[i] = f(i);
  return bits<Out>(to);
}
template <typename F>
static inline __m512 floats(F f) {
  return lanes<__m512, Floats>(f);
}
template <typename F>
static inline __m512i ints(F f) {
  return lanes<__m512i, Ints>(f);
}

// [16] to [8], [4], [2], 1: halves of the vector with each other.
template <typename T, typename Op>
static inline T reduce(T* of, Op op) {
  for (size_t n = 8; n > 0; n /= 2)
    for (size_t i = 0; i < n; ++i) of[i] = op(of[i], of[i + n]);
  return of[0];
}

static inline __m512 set1_ps(float v) {
  return floats([&](size_t) { return v; });
}
static inline __m512i set1_epi32(int32_t v) {
  return ints([&](size_t) { return v; });
}
static inline __m512 loadu_ps(const void* p) {
  Floats f;
  std::memcpy(&f, p, sizeof(f));
  return bits<__m512>(f);
}
static inline __m512i loadu_si512(const void* p) { return bits<__m512i>(loadu_ps(p)); }
static inline __m512 permutexvar_ps(__m512i from, __m512 v) {
  const Ints at = bits<Ints>(from);
  const Floats f = bits<Floats>(v);
  return floats([&](size_t i) { return f.of[at.of[i] & 15]; });
}
static inline void storeu_ps(void* p, __m512 v) { std::memcpy(p, &v, sizeof(v)); }
static inline __m512 maskz_loadu_ps(__mmask16 mask, const float* p) {
  return floats([&](size_t i) { return (mask >> i & 1) != 0 ? p[i] : 0.0f; });
}
static inline void mask_storeu_ps(float* p, __mmask16 mask, __m512 v) {
  const Floats f = bits<Floats>(v);
  for (size_t i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) p[i] = f.of[i];
}
static inline void mask_storeu_epi8(void* p, __mmask16 mask, __m128i v) {
  const Small s = bits<Small>(v);
  for (size_t i = 0; i < 16; ++i)
    if ((mask >> i & 1) != 0) static_cast<int8_t*>(p)[i] = s.of[i];
}

template <typename Op>
static inline __m512 with(__m512 a, __m512 b, Op op) {
  const Floats x = bits<Floats>(a), y = bits<Floats>(b);
  return floats([&](size_t i) { return op(x.of[i], y.of[i]); });
}
static inline __m512 add_ps(__m512 a, __m512 b) {
  return with(a, b, [](float x, float y) { return x + y; });
}
static inline __m512 sub_ps(__m512 a, __m512 b) {
  return with(a, b, [](float x, float y) { return x - y; });
}
static inline __m512 mul_ps(__m512 a, __m512 b) {
  return with(a, b, [](float x, float y) { return x * y; });
}
static inline __m512 div_ps(__m512 a, __m512 b) {
  return with(a, b, [](float x, float y) { return x / y; });
}
// The second operand when one is NaN.
static inline __m512 max_ps(__m512 a, __m512 b) {
  return with(a, b, [](float x, float y) { return x > y ? x : y; });
}
static inline __m512 min_ps(__m512 a, __m512 b) {
  return with(a, b, [](float x, float y) { return x < y ? x : y; });
}
static inline __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
  const Floats x = bits<Floats>(a), y = bits<Floats>(b), z = bits<Floats>(c);
  return floats([&](size_t i) { return std::fma(x.of[i], y.of[i], z.of[i]); });
}
static inline __m512 nearest_ps(__m512 a) {
  const Floats x = bits<Floats>(a);
  return floats([&](size_t i) { return std::nearbyint(x.of[i]); });
}
static inline float reduce_add_ps(__m512 v) {
  Floats f = bits<Floats>(v);
  return reduce(f.of, [](float a, float b) { return a + b; });
}
static inline float reduce_max_ps(__m512 v) {
  Floats f = bits<Floats>(v);
  return reduce(f.of, [](float a, float b) { return a > b ? a : b; });
}

static inline __m512i add_epi32(__m512i a, __m512i b) {
  const Ints x = bits<Ints>(a), y = bits<Ints>(b);
  return ints([&](size_t i) {
    return static_cast<int32_t>(static_cast<uint32_t>(x.of[i]) + static_cast<uint32_t>(y.of[i]));
  });
}
static inline __m512i permutex2var_epi32(__m512i a, __m512i from, __m512i b) {
  const Ints x = bits<Ints>(a), at = bits<Ints>(from), y = bits<Ints>(b);
  return ints(
      [&](size_t i) { return (at.of[i] & 16) != 0 ? y.of[at.of[i] & 15] : x.of[at.of[i] & 15]; });
}
static inline __m512i permutexvar_epi16(__m512i from, __m512i a) {
  struct {
    uint16_t of[32];
  } at, x, out;
  std::memcpy(&at, &from, sizeof(at));
  std::memcpy(&x, &a, sizeof(x));
  for (size_t i = 0; i < 32; ++i) out.of[i] = x.of[at.of[i] & 31];
  return bits<__m512i>(out);
}
static inline __m256i cvtepi32_epi16(__m512i a) {
  const Ints x = bits<Ints>(a);
  Words out;
  for (size_t i = 0; i < 16; ++i) out.of[i] = static_cast<uint16_t>(x.of[i]);
  return bits<__m256i>(out);
}
static inline __m512i srli_epi32(__m512i a, unsigned n) {
  const Ints x = bits<Ints>(a);
  return ints([&](size_t i) { return static_cast<int32_t>(static_cast<uint32_t>(x.of[i]) >> n); });
}
static inline __m512i and_si512(__m512i a, __m512i b) {
  const Ints x = bits<Ints>(a), y = bits<Ints>(b);
  return ints([&](size_t i) { return x.of[i] & y.of[i]; });
}
static inline __m512i or_si512(__m512i a, __m512i b) {
  const Ints x = bits<Ints>(a), y = bits<Ints>(b);
  return ints([&](size_t i) { return x.of[i] | y.of[i]; });
}
static inline __m512i slli_epi32(__m512i a, unsigned n) {
  const Ints x = bits<Ints>(a);
  return ints([&](size_t i) { return static_cast<int32_t>(static_cast<uint32_t>(x.of[i]) << n); });
}
// The lowest number for what does not fit, NaN too.
static inline __m512i cvtps_epi32(__m512 v) {
  const Floats f = bits<Floats>(v);
  return ints([&](size_t i) {
    const float r = std::nearbyint(f.of[i]);
    return r >= -0x1p31f && r < 0x1p31f ? static_cast<int32_t>(r) : INT32_MIN;
  });
}
static inline __m512 cvtepi32_ps(__m512i v) {
  const Ints n = bits<Ints>(v);
  return floats([&](size_t i) { return static_cast<float>(n.of[i]); });
}
static inline __m128i cvtepi32_epi8(__m512i v) {
  const Ints n = bits<Ints>(v);
  return lanes<__m128i, Small>([&](size_t i) { return static_cast<int8_t>(n.of[i] & 255); });
}
static inline __m512i cvtepi8_epi32(__m128i v) {
  const Small s = bits<Small>(v);
  return ints([&](size_t i) { return int32_t{s.of[i]}; });
}
static inline __m512i cvtepu16_epi32(__m256i v) {
  const Words w = bits<Words>(v);
  return ints([&](size_t i) { return int32_t{w.of[i]}; });
}
static inline __m512 cvtph_ps(__m256i v) {
  const Words w = bits<Words>(v);
  return floats([&](size_t i) { return _cvtsh_ss(w.of[i]); });
}
// c + four products of an unsigned and a signed byte, modulo 2^32; of vectors of 8 or 16.
template <typename Vector>
static inline Vector dpbusd_epi32(Vector c, Vector a, Vector b) {
  uint32_t sums[sizeof(Vector) / 4];
  uint8_t x[sizeof(Vector)];
  int8_t y[sizeof(Vector)];
  std::memcpy(sums, &c, sizeof(c));
  std::memcpy(x, &a, sizeof(a));
  std::memcpy(y, &b, sizeof(b));
  for (size_t i = 0; i < sizeof(Vector); ++i)
    sums[i / 4] += static_cast<uint32_t>(int32_t{x[i]} * int32_t{y[i]});
  std::memcpy(&c, sums, sizeof(c));
  return c;
}

}  // namespace octet::kernels::emulated
