// Of what simd/int8.inl and int8_gemm.inl ask of a set: AVX-512 VNNI, u8 activations times s8
// weights, vpdpbusd.

using Activation = uint8_t;
constexpr int32_t kShift = 128;
constexpr size_t kUnit = 4;

static inline void store_activations(uint8_t* out, V q, size_t n) {
  const I u = add_i(_mm512_cvtps_epi32(q), set1_i(kShift));
  _mm_mask_storeu_epi8(out, head_mask(n), _mm512_cvtepi32_epi8(u));
}
static inline I multiply_add_i(I c, I x, I w) { return _mm512_dpbusd_epi32(c, x, w); }
