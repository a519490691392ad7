// int8: quantized activations, packed weights, their products. Included after a vec.h; the set
// defines
//   Activation            how a quantized activation is held, and kShift, which is added to it
//   kUnit                 inputs of a multiplication: 4 bytes of activations
//   kSums, kPanel         vectors of sums of a panel, and its channels
//   kAlign                k is padded to a multiple of this
//   kAhead                bytes that one row of activations fetches ahead, 0 for none
//   store_activations(out, q, n)   the first n lanes of whole numbers q, within int8
//   multiply_add_i(c, x, w)        c + the products of kUnit activations x with weights w
//   weights_i(b, v)                vector v of a step's weights

// Panels [k / kUnit][kPanel][kUnit] of w [n, k]; a part of the inputs at a time, so that what is
// written to stays in the first cache.
static void int8_pack(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
                      int8_t* packed) noexcept {
  constexpr size_t kPart = 512;
  const size_t padded = (k + kAlign - 1) / kAlign * kAlign;
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

// What follows is the set's, where it has nothing better.

constexpr size_t kInt8Rows = 6;
constexpr size_t kStepBytes = kPanel * kUnit;

template <size_t kRows>
static void int8_tile(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j0, size_t steps) {
  I c[kRows][kSums];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < kSums; ++v) c[r][v] = load_i(g.bias + j0 + v * kLanes);
  const Activation* a = static_cast<const Activation*>(g.a) + row * g.lda;
  for (size_t i = 0; i < steps; ++i, b += kStepBytes) {
    if constexpr (kRows == 1 && kAhead > 0) __builtin_prefetch(b + kAhead);
    I w[kSums];
#pragma GCC unroll 4
    for (size_t v = 0; v < kSums; ++v) w[v] = weights_i(b, v);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      int32_t unit;
      __builtin_memcpy(&unit, a + r * g.lda + i * kUnit, 4);
      const I x = set1_i(unit);
#pragma GCC unroll 4
      for (size_t v = 0; v < kSums; ++v) c[r][v] = multiply_add_i(c[r][v], x, w[v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < kSums; ++v)
      if (g.sums != nullptr)
        int8_store(g, bits_of(c[r][v]), row + r, j0 + v * kLanes);
      else
        int8_finish(g, to_floats(c[r][v]), row + r, j0 + v * kLanes);
}

template <size_t kRows>
static size_t int8_step(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j0,
                        size_t steps) {
  if constexpr (kRows > 1)
    if (g.m - row < kRows) return int8_step<kRows - 1>(g, b, row, j0, steps);
  int8_tile<kRows>(g, b, row, j0, steps);
  return kRows;
}

// Rows [row, g.m) of panel p.
static void int8_rows(const Int8GemmArgs& g, size_t p, size_t row) {
  const size_t padded = (g.k + kAlign - 1) / kAlign * kAlign, steps = (g.k + kUnit - 1) / kUnit;
  while (row < g.m)
    row += int8_step<kInt8Rows>(g, g.packed + p * kPanel * padded, row, p * kPanel, steps);
}

[[maybe_unused]] static void int8_gemm(const Int8GemmArgs& g) noexcept {
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) int8_rows(g, p, 0);
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

[[maybe_unused]] static double int8_peak(size_t steps) noexcept {
  constexpr size_t kChains = 12;
  I c[kChains];
#pragma GCC unroll 12
  for (I& v : c) v = set1_i(0);
  const I b = set1_i(0x05050505);
  for (size_t i = 0; i < steps; ++i) {
    // Each sum is its own factor, so that no product is computed twice or ahead of its turn.
#pragma GCC unroll 12
    for (size_t j = 0; j < kChains; ++j) c[j] = multiply_add_i(c[j], c[j], b);
#pragma GCC unroll 12
    for (size_t j = 0; j < kChains; ++j) keep(c[j]);
  }
  I total = set1_i(0);
#pragma GCC unroll 12
  for (const I& v : c) total = add_i(total, v);
  volatile int32_t sink = first_lane(total);
  (void)sink;
  return 2.0 * kChains * kLanes * kUnit * static_cast<double>(steps);
}
