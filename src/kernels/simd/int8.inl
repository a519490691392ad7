// What the int8 kernels of the sets share: the scale of a token, the end of a GEMM. Included like
// ops.inl, after it.

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
