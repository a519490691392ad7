// Float GEMM over packed panels [k][kPanel] with weights of 32, 16 or 8 bits, converted in
// registers. Included like ops.inl, after it; the set defines kFloatRows (rows of the register
// tile) and kFloatVecs (vectors of a panel: kPanel = kFloatVecs * kLanes).

inline constexpr size_t kFloatPanel = kFloatVecs * kLanes;

template <typename T>
static void pack_float_panels(const void* w, size_t n, size_t k, size_t begin, size_t end,
                              void* packed) {
  for (size_t p = begin; p < end; ++p) {
    T* out = static_cast<T*>(packed) + p * kFloatPanel * k;
    for (size_t j = 0; j < kFloatPanel; ++j) {
      const size_t row = p * kFloatPanel + j;
      const char* from = static_cast<const char*>(w) + row * k * sizeof(T);
      if (row < n)
        for (size_t i = 0; i < k; ++i)
          __builtin_memcpy(&out[i * kFloatPanel + j], from + i * sizeof(T), sizeof(T));
      else
        for (size_t i = 0; i < k; ++i) out[i * kFloatPanel + j] = T{0};
    }
  }
}

static void float_pack(const void* w, FloatType type, size_t n, size_t k, size_t begin, size_t end,
                       void* packed) noexcept {
  if (type == FloatType::kF32)
    pack_float_panels<float>(w, n, k, begin, end, packed);
  else if (type == FloatType::kI8)
    pack_float_panels<int8_t>(w, n, k, begin, end, packed);
  else
    pack_float_panels<uint16_t>(w, n, k, begin, end, packed);
}

// kRows rows times kPanels neighbouring panels, from output j0 on.
template <typename L, bool kOffset, size_t kRows, size_t kPanels = 1>
static void float_tile(const FloatGemmArgs& g, const typename L::T* b, size_t row, size_t j0) {
  constexpr size_t kVecs = kPanels * kFloatVecs;
  const size_t next_panel = kFloatPanel * g.k;
  V c[kRows][kVecs];
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (size_t v = 0; v < kVecs; ++v) c[r][v] = zero();
  const float* a = g.a + row * g.lda;
  constexpr size_t kAhead = 2048 / sizeof(typename L::T);  // weights
  for (size_t i = 0; i < g.k; ++i, b += kFloatPanel) {
    if constexpr (kRows == 1)
      for (size_t p = 0; p < kPanels; ++p) __builtin_prefetch(b + p * next_panel + kAhead);
    V w[kVecs];
#pragma GCC unroll 8
    for (size_t v = 0; v < kVecs; ++v) {
      w[v] = L::vec(b + v / kFloatVecs * next_panel + v % kFloatVecs * kLanes);
      if constexpr (kOffset) w[v] = sub(w[v], load(g.offset + j0 + v * kLanes));
    }
#pragma GCC unroll 16
    for (size_t r = 0; r < kRows; ++r) {
      const V x = set1(a[r * g.lda + i]);
#pragma GCC unroll 8
      for (size_t v = 0; v < kVecs; ++v) c[r][v] = fma(x, w[v], c[r][v]);
    }
  }
#pragma GCC unroll 16
  for (size_t r = 0; r < kRows; ++r)
#pragma GCC unroll 8
    for (size_t v = 0; v < kVecs; ++v) {
      const size_t j = j0 + v * kLanes;
      if (j >= g.n) continue;
      const size_t n = g.n - j < kLanes ? g.n - j : kLanes;
      V y = c[r][v];
      if (g.scale != nullptr) y = mul(y, load(g.scale + j));
      if (g.bias != nullptr) y = add(y, load(g.bias + j));
      float* out = g.y + (row + r) * g.ldy + j;
      if (g.accumulate) y = add(y, load_head(out, n));
      store_head(out, y, n);
    }
}

template <typename L, bool kOffset, size_t kRows>
static size_t float_step(const FloatGemmArgs& g, const typename L::T* b, size_t row, size_t j0) {
  if constexpr (kRows > 1)
    if (g.m - row < kRows) return float_step<L, kOffset, kRows / 2>(g, b, row, j0);
  float_tile<L, kOffset, kRows>(g, b, row, j0);
  return kRows;
}

template <typename L, bool kOffset = false>
static void float_gemm_typed(const FloatGemmArgs& g) {
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) {
    const auto* b = static_cast<const typename L::T*>(g.packed) + p * kFloatPanel * g.k;
    if (g.m == 1 && p + 1 < g.panel_end) {
      // Each sum waits for its last addition, so one row takes two panels at a time: in cache, int8
      // weights at 25.7 instead of 12.9 GB/s a core, bfloat16 at 40.9 instead of 25.6 (Zen 3 EPYC,
      // AVX2, g++ 12).
      float_tile<L, kOffset, 1, 2>(g, b, 0, p++ * kFloatPanel);
      continue;
    }
    for (size_t row = 0; row < g.m;)
      row += float_step<L, kOffset, kFloatRows>(g, b, row, p * kFloatPanel);
  }
}

static void float_gemm(const FloatGemmArgs& g) noexcept {
  switch (g.type) {
    case FloatType::kF32:
      float_gemm_typed<LoadF32>(g);
      return;
    case FloatType::kF16:
      float_gemm_typed<LoadF16>(g);
      return;
    case FloatType::kBF16:
      float_gemm_typed<LoadBF16>(g);
      return;
    case FloatType::kI8:
      if (g.offset != nullptr) return float_gemm_typed<LoadI8, true>(g);
      return float_gemm_typed<LoadI8>(g);
  }
}

template <typename L>
static void float_row_typed(const void* packed, size_t k, size_t row, float* out) {
  const size_t column = row % kFloatPanel, lane = column % kLanes;
  const auto* b = static_cast<const typename L::T*>(packed) + row / kFloatPanel * kFloatPanel * k;
  alignas(64) float lanes[kLanes];
  for (size_t i = 0; i < k; ++i) {
    store(lanes, L::vec(b + i * kFloatPanel + column - lane));
    out[i] = lanes[lane];
  }
}

static void float_row(const void* packed, FloatType type, size_t k, size_t row,
                      float* out) noexcept {
  switch (type) {
    case FloatType::kF32:
      return float_row_typed<LoadF32>(packed, k, row, out);
    case FloatType::kF16:
      return float_row_typed<LoadF16>(packed, k, row, out);
    case FloatType::kBF16:
      return float_row_typed<LoadBF16>(packed, k, row, out);
    case FloatType::kI8:
      return float_row_typed<LoadI8>(packed, k, row, out);
  }
}

static float read_memory(const float* data, size_t count) noexcept {
  V c[4];
#pragma GCC unroll 4
  for (V& v : c) v = zero();
  for (size_t i = 0; i < count; i += 4 * kLanes) {
    __builtin_prefetch(data + i + 512);
    if constexpr (kLanes > 8) __builtin_prefetch(data + i + 512 + 16);
#pragma GCC unroll 4
    for (size_t j = 0; j < 4; ++j) c[j] = add(c[j], load(data + i + j * kLanes));
  }
  return sum(add(add(c[0], c[1]), add(c[2], c[3])));
}

static double float_peak(size_t steps) noexcept {
  V c[12];
#pragma GCC unroll 12
  for (V& v : c) v = set1(0.5f);
  const V a = set1(0.999f), b = set1(0.001f);
  for (size_t i = 0; i < steps; ++i) {
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) c[j] = fma(c[j], a, b);
#pragma GCC unroll 12
    for (size_t j = 0; j < 12; ++j) keep(c[j]);
  }
  V total = zero();
#pragma GCC unroll 12
  for (const V& v : c) total = add(total, v);
  volatile float sink = sum(total);
  (void)sink;
  return 2.0 * 12 * static_cast<double>(kLanes) * static_cast<double>(steps);
}
