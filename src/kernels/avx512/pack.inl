// Packing by transposing 16 x 16 numbers of 32 bits in registers: four int8 or two bfloat16 inputs
// of a channel are one. Included after simd/int8.inl.

// Rows become columns: blocks of 1, 2, 4 and 8 change places.
static inline void transpose(I (&rows)[kLanes]) {
#pragma GCC unroll 4
  for (size_t size = 1; size < kLanes; size *= 2) {
    alignas(64) int32_t first[kLanes], second[kLanes];
    for (size_t l = 0; l < kLanes; ++l) {
      first[l] = static_cast<int32_t>((l & size) != 0 ? kLanes + l - size : l);
      second[l] = static_cast<int32_t>((l & size) != 0 ? kLanes + l : l + size);
    }
    const I f = load_i(first), s = load_i(second);
#pragma GCC unroll 16
    for (size_t i = 0; i < kLanes; ++i)
      if ((i & size) == 0) {
        const I a = rows[i], b = rows[i + size];
        rows[i] = _mm512_permutex2var_epi32(a, f, b);
        rows[i + size] = _mm512_permutex2var_epi32(a, s, b);
      }
  }
}

// The first n bytes, at most 64, then zeros.
static inline I load_bytes(const void* p, size_t n) {
  if (n >= sizeof(I)) return load_i(p);
  alignas(64) char bytes[sizeof(I)] = {};
  __builtin_memcpy(bytes, p, n);
  return load_i(bytes);
}

// 64 bytes from `at` on of 16 rows of w [n rows, row_bytes], from row `first`; zeros where there
// are none.
static inline void load_rows(const char* w, size_t n, size_t row_bytes, size_t first, size_t at,
                             I (&rows)[kLanes]) {
  for (size_t r = 0; r < kLanes; ++r)
    rows[r] = first + r < n && at < row_bytes
                  ? load_bytes(w + (first + r) * row_bytes + at, row_bytes - at)
                  : set1_i(0);
}

static void int8_pack_transposing(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
                                  int8_t* packed) noexcept {
  const size_t padded = (k + kAlign - 1) / kAlign * kAlign;
  I rows[kLanes];
  for (size_t p = begin; p < end; ++p)
    for (size_t j = 0; j < kPanel; j += kLanes)
      for (size_t i = 0; i < padded; i += sizeof(I)) {
        load_rows(reinterpret_cast<const char*>(w), n, k, p * kPanel + j, i, rows);
        transpose(rows);
        int8_t* to = packed + p * kPanel * padded;
        for (size_t u = 0; u < kLanes && i + u * kUnit < padded; ++u)
          store(reinterpret_cast<float*>(to + packed_at(i + u * kUnit, j)), bits_of(rows[u]));
      }
}
