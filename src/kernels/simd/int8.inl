// int8: quantized activations, packed weights, and what becomes of their products, which are those
// of int8_gemm.inl or the set's own. Included after a vec.h; the set defines
//   Activation            how a quantized activation is held, and kShift, which is added to it
//   kUnit                 inputs of a multiplication: 4 bytes of activations
//   kPanel                channels of a panel
//   kAlign                k is padded to a multiple of this
//   kGroup, kDepth        of a panel, [k / kDepth][kPanel / kGroup][kDepth / kUnit][kGroup][kUnit]
//   store_activations(out, q, n)   the first n lanes of whole numbers q, within int8

// Where the weights of channel j for the inputs i to i + kUnit are in a panel.
static inline size_t packed_at(size_t i, size_t j) {
  return (i / kDepth * kPanel + j / kGroup * kGroup) * kDepth +
         (i % kDepth / kUnit * kGroup + j % kGroup) * kUnit;
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

// kLanes channels of a product from j on, whose sums become numbers.
struct Channels {
  size_t j, n;  // so many that exist
  V scale, bias;
};
static inline Channels channels_at(const Int8GemmArgs& g, size_t j) {
  const size_t n = j >= g.n ? 0 : (g.n - j < kLanes ? g.n - j : kLanes);
  return {j, n, load(g.scale + j), g.float_bias == nullptr ? zero() : load(g.float_bias + j)};
}

// Their sums of a row, to y or to g.sums.
static inline void int8_finish(const Int8GemmArgs& g, const Channels& c, I sums, size_t row) {
  if (c.n == 0) return;
  if (g.sums != nullptr) {
    store_head(reinterpret_cast<float*>(g.sums) + row * g.ldy + c.j, bits_of(sums), c.n);
    return;
  }
  V y = mul(to_floats(sums), c.scale);
  if (g.row_scale != nullptr) y = mul(y, set1(g.row_scale[row]));
  if (g.float_bias != nullptr) y = add(y, c.bias);
  float* out = g.y + row * g.ldy + c.j;
  if (g.accumulate) y = add(load_head(out, c.n), y);
  store_head(out, y, c.n);
}

static void quantize_row(const float* x, size_t k, float scale, float offset, float lowest,
                         void* xq) {
  Activation* out = static_cast<Activation*>(xq);
  const V s = set1(scale), o = set1(offset), lo = set1(lowest), hi = set1(127.0f);
  for (size_t i = 0; i < k; i += kLanes) {
    const size_t n = k - i < kLanes ? k - i : kLanes;
    store_activations(out + i, min(max(add(round(div(load_head(x + i, n), s)), o), lo), hi), n);
  }
  for (size_t i = k; i % kUnit != 0; ++i) out[i] = 0;
}

[[maybe_unused]] static void quantize(const float* x, size_t k, float scale, float offset,
                                      void* xq) noexcept {
  quantize_row(x, k, scale, offset, -128.0f, xq);
}

[[maybe_unused]] static float quantize_token(const float* x, size_t k, void* xq) noexcept {
  const float scale = token_scale(x, k);
  quantize_row(x, k, scale, 0, -127.0f, xq);
  return scale;
}
