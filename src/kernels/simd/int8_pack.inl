// int8 weights into panels. Included after int8.inl by sets that have nothing better.

// Panels of w [n, k]; a part of the inputs at a time, so that what is written to stays in the first
// cache.
static void int8_pack(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
                      int8_t* packed) noexcept {
  constexpr size_t kPart = 512;
  const size_t padded = (k + kAlign - 1) / kAlign * kAlign;
  for (size_t p = begin; p < end; ++p)
    for (size_t first = 0; first < padded; first += kPart)
      for (size_t j = 0; j < kPanel; ++j) {
        const size_t row = p * kPanel + j, last = padded - first < kPart ? padded : first + kPart;
        const size_t stored = row < n ? (k < last ? k : last) : 0;  // inputs with a weight
        int8_t* to = packed + p * kPanel * padded;
        size_t i = first;
        for (; i + kUnit <= stored; i += kUnit)
          __builtin_memcpy(to + packed_at(i, j), w + row * k + i, kUnit);
        for (; i < last; i += kUnit)
          for (size_t u = 0; u < kUnit; ++u)
            to[packed_at(i, j) + u] = i + u < stored ? w[row * k + i + u] : int8_t{0};
      }
}
