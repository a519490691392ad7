// int8 products in registers. Included after int8.inl, over panels with kGroup = kPanel and
// kDepth = kUnit; the set defines
//   kSums                    vectors of sums of a panel
//   kAhead                   bytes that one row of activations fetches ahead, 0 for none
//   multiply_add_i(c, x, w)  c + the products of kUnit activations x with weights w
//   weights_i(b, v)          vector v of a step's weights

constexpr size_t kInt8Rows = 6;
constexpr size_t kStepBytes = kPanel * kUnit;

// What the steps of a tile fetch for later, so many bytes each.
struct Ahead {
  const int8_t* from;
  size_t bytes;
};

template <size_t kRows>
static void int8_tile(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j0, size_t steps,
                      Ahead ahead) {
  I c[kRows][kSums];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (size_t v = 0; v < kSums; ++v) c[r][v] = load_i(g.bias + j0 + v * kLanes);
  const Activation* a = static_cast<const Activation*>(g.a) + row * g.lda;
  for (size_t i = 0; i < steps; ++i, b += kStepBytes, ahead.from += ahead.bytes) {
    if constexpr (kRows == 1 && kAhead > 0) __builtin_prefetch(b + kAhead);
    if constexpr (kRows > 2)  // of several tiles none has fewer rows
      for (size_t at = 0; at < ahead.bytes; at += 64) __builtin_prefetch(ahead.from + at, 0, 2);
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
#pragma GCC unroll 4
  for (size_t v = 0; v < kSums; ++v) {
    const Channels channels = channels_at(g, j0 + v * kLanes);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) int8_finish(g, channels, c[r][v], row + r);
  }
}

// So many rows, at most kRows.
template <size_t kRows>
static void int8_rows(const Int8GemmArgs& g, size_t p, size_t row, size_t rows, Ahead ahead) {
  if constexpr (kRows > 1)
    if (rows < kRows) return int8_rows<kRows - 1>(g, p, row, rows, ahead);
  const size_t padded = (g.k + kAlign - 1) / kAlign * kAlign, steps = (g.k + kUnit - 1) / kUnit;
  int8_tile<kRows>(g, g.packed + p * kPanel * padded, row, p * kPanel, steps, ahead);
}

// A panel's rows go in tiles of about the same height; each fetches its part of the next panel,
// since memory would be idle after the first one otherwise.
static void int8_gemm(const Int8GemmArgs& g) noexcept {
  const size_t tiles = (g.m + kInt8Rows - 1) / kInt8Rows;
  const size_t panel_bytes = (g.k + kAlign - 1) / kAlign * kAlign * kPanel;
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) {
    const int8_t* next = g.packed + (p + 1) * panel_bytes;
    const size_t bytes = p + 1 < g.panel_end && tiles > 1 ? (kStepBytes + tiles - 1) / tiles : 0;
    for (size_t t = 0; t < tiles; ++t) {
      const size_t row = g.m * t / tiles, end = g.m * (t + 1) / tiles;
      int8_rows<kInt8Rows>(g, p, row, end - row, {next + panel_bytes * t / tiles, bytes});
    }
  }
}

static double int8_peak(size_t steps) noexcept {
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
