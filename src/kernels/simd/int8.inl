// What the int8 kernels of the sets share: the scale of a token, the end of a GEMM. Included like
// ops.inl, after it.

// Panels [k / kUnit][kPanel][kUnit] of w [n, k]; a part of the inputs at a time, so that what is
// written to stays in the first cache.
template <size_t kPanel, size_t kUnit>
static void pack_int8_panels(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
                             int8_t* packed) {
  constexpr size_t kPart = 512;
  const size_t padded = (k + kUnit - 1) / kUnit * kUnit;
  for (size_t p = begin; p < end; ++p)
    for (size_t first = 0; first < padded; first += kPart)
      for (size_t j = 0; j < kPanel; ++j) {
        const size_t row = p * kPanel + j, last = padded - first < kPart ? padded : first + kPart;
        const size_t stored = row < n ? (k < last ? k : last) : 0;  // inputs with a weight
        int8_t* to = packed + p * kPanel * padded + first * kPanel + j * kUnit;
        size_t i = first;
        for (; i + kUnit <= stored; i += kUnit, to += kPanel * kUnit)
          __builtin_memcpy(to, w + row * k + i, kUnit);
        for (; i < last; i += kUnit, to += kPanel * kUnit)
          for (size_t u = 0; u < kUnit; ++u)
            to[u] = i + u < stored ? w[row * k + i + u] : int8_t{0};
      }
}

// max|x| / 127, or 1 where that is zero, so that nothing divides by zero. NaN does not count.
static float token_scale(const float* x, size_t k) {
  V top = zero();
  for (size_t i = 0; i < k; i += kLanes) {
    const V v = load_head(x + i, k - i < kLanes ? k - i : kLanes);
    top = max(max(v, sub(zero(), v)), top);
  }
  const float scale = maximum(top) / 127.0f;
  return scale > 0 ? scale : 1.0f;
}

// Sums of kLanes channels from j on, int32 as bits of a V, to one row of g.sums.
static inline void int8_store(const Int8GemmArgs& g, V bits, size_t row, size_t j) {
  if (j >= g.n) return;
  const size_t n = g.n - j < kLanes ? g.n - j : kLanes;
  store_head(reinterpret_cast<float*>(g.sums) + row * g.ldy + j, bits, n);
}

// Sums of kLanes channels from j on to one row of y.
static inline void int8_finish(const Int8GemmArgs& g, V sums, size_t row, size_t j) {
  if (j >= g.n) return;
  const size_t n = g.n - j < kLanes ? g.n - j : kLanes;
  V y = mul(sums, load(g.scale + j));
  if (g.row_scale != nullptr) y = mul(y, set1(g.row_scale[row]));
  if (g.float_bias != nullptr) y = add(y, load(g.float_bias + j));
  float* out = g.y + row * g.ldy + j;
  if (g.accumulate) y = add(load_head(out, n), y);
  store_head(out, y, n);
}
