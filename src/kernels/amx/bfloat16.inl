// Products of floats with bfloat16 weights, by tiles (tdpbf16ps: bfloat16 factors, float32 sums).
// An activation is the sum of three bfloat16 numbers, its first, middle and last eight bits,
// exactly (but for what is below 2^-126), so a row is multiplied three times. Panels are
// [k/32][3][16][16][2]: a tile of weights holds inputs i and i + 16, i < 16, for 16 channels.

constexpr size_t kFloatTiles = 3, kFloatPanel = kFloatTiles * kGroup;  // avx512's panel
constexpr size_t kFloatDepth = 32;                                     // inputs of a step
constexpr size_t kFloatStepBytes = kFloatTiles * kTile;
constexpr size_t kParts = 3;  // of an activation

// Memory for a call, on the stack: activations in parts for some rows and steps, and their sums
// with some panels.
constexpr size_t kSplitBytes = kParts * kTile;  // of 16 rows for a step
constexpr size_t kActivationSteps = 64;         // of 16 rows
constexpr size_t kFloatRows = 4 * kTileRows;
constexpr size_t kPanelsAtOnce = 16;
struct FloatScratch {
  alignas(64) uint8_t activations[kActivationSteps * kSplitBytes];  // [16 rows][steps][parts]
  alignas(64) float sums[kPanelsAtOnce][kFloatRows * kFloatPanel];  // of a panel [rows][channels]
};

static inline size_t float_steps(size_t k) { return (k + kFloatDepth - 1) / kFloatDepth; }

// Where the weight of channel j for input i is in a panel, in elements.
static inline size_t float_at(size_t i, size_t j) {
  const size_t within = i % kFloatDepth;
  return (i / kFloatDepth * kFloatTiles + j / kGroup) * kTile / 2 + within % 16 * 2 * kGroup +
         j % kGroup * 2 + within / 16;
}

// Input i of 32 and input i + 16 side by side.
static inline I halves() {
  alignas(64) uint16_t from[2 * kLanes];
  for (size_t i = 0; i < kLanes; ++i) {
    from[2 * i] = static_cast<uint16_t>(i);
    from[2 * i + 1] = static_cast<uint16_t>(i + kLanes);
  }
  return load_i(from);
}

void bf16_pack(const void* w, size_t n, size_t k, size_t begin, size_t end, void* packed) noexcept {
  const size_t steps = float_steps(k);
  I rows[kLanes];
  for (size_t p = begin; p < end; ++p)
    for (size_t j = 0; j < kFloatPanel; j += kGroup)
      for (size_t s = 0; s < steps; ++s) {
        load_rows(static_cast<const char*>(w), n, 2 * k, p * kFloatPanel + j, s * kTileBytes, rows);
        for (I& row : rows) row = _mm512_permutexvar_epi16(halves(), row);
        transpose(rows);
        char* to =
            static_cast<char*>(packed) + (p * steps + s) * kFloatStepBytes + j / kGroup * kTile;
        for (size_t u = 0; u < kLanes; ++u)
          store(reinterpret_cast<float*>(to + u * kTileBytes), bits_of(rows[u]));
      }
}

void bf16_row(const void* packed, size_t k, size_t row, float* out) noexcept {
  const uint16_t* panel = static_cast<const uint16_t*>(packed) +
                          row / kFloatPanel * kFloatPanel * float_steps(k) * kFloatDepth;
  for (size_t i = 0; i < k; ++i) {
    const uint32_t bits = uint32_t{panel[float_at(i, row % kFloatPanel)]} << 16;
    __builtin_memcpy(out + i, &bits, sizeof(bits));
  }
}

// 32 activations, of which the first n exist if n is less, as rows of the tiles of their parts.
static inline void split(const float* x, size_t n, uint8_t* first) {
  const I high = set1_i(static_cast<int32_t>(0xffff0000));
  V low = load_head(x, n < kLanes ? n : kLanes);
  V up = load_head(x + kLanes, n < kLanes ? 0 : (n - kLanes < kLanes ? n - kLanes : kLanes));
  for (size_t part = 0; part < kParts; ++part) {
    const I a = _mm512_and_si512(_mm512_castps_si512(low), high);
    const I b = _mm512_and_si512(_mm512_castps_si512(up), high);
    store(reinterpret_cast<float*>(first + part * kTile),
          bits_of(_mm512_or_si512(_mm512_srli_epi32(a, 16), b)));
    low = sub(low, _mm512_castsi512_ps(a));
    up = sub(up, _mm512_castsi512_ps(b));
  }
}

// What is multiplied at once: 16 rows, or fewer, by a panel for some steps. Sums are tiles 0 to 2,
// the weights of a step 3 to 5, activations 6 and 7: six loads for nine products. The last parts
// come first, so that what is small is added to what is small.
struct FloatPart {
  const uint8_t* a;
  const uint8_t* b;
  size_t steps;
  bool first;
  float* sums;  // [16][kFloatPanel]
  bool fetch;   // the weights of the next step
};

void multiply_floats(const FloatPart& p) {
  constexpr size_t kBytes = kFloatPanel * sizeof(float);
  written();
  if (p.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
  } else {
    _tile_loadd(0, p.sums, kBytes);
    _tile_loadd(1, p.sums + kGroup, kBytes);
    _tile_loadd(2, p.sums + 2 * kGroup, kBytes);
  }
  const uint8_t* a = p.a;
  const uint8_t* b = p.b;
  for (size_t i = 0; i < p.steps; ++i, a += kSplitBytes, b += kFloatStepBytes) {
    if (p.fetch)
      for (size_t at = 0; at < kFloatStepBytes; at += kTileBytes)
        __builtin_prefetch(b + kFloatStepBytes + at);
    _tile_loadd(3, b, kTileBytes);
    _tile_loadd(4, b + kTile, kTileBytes);
    _tile_loadd(5, b + 2 * kTile, kTileBytes);
    _tile_loadd(6, a + 2 * kTile, kTileBytes);
    _tile_dpbf16ps(0, 6, 3);
    _tile_dpbf16ps(1, 6, 4);
    _tile_dpbf16ps(2, 6, 5);
    _tile_loadd(7, a + kTile, kTileBytes);
    _tile_dpbf16ps(0, 7, 3);
    _tile_dpbf16ps(1, 7, 4);
    _tile_dpbf16ps(2, 7, 5);
    _tile_loadd(6, a, kTileBytes);
    _tile_dpbf16ps(0, 6, 3);
    _tile_dpbf16ps(1, 6, 4);
    _tile_dpbf16ps(2, 6, 5);
  }
  _tile_stored(0, p.sums, kBytes);
  _tile_stored(1, p.sums + kGroup, kBytes);
  _tile_stored(2, p.sums + 2 * kGroup, kBytes);
}

// Sums [rows][kFloatPanel] of the panel that begins at channel j0, to rows from `row` on.
void finish_floats(const FloatGemmArgs& g, const float* sums, size_t row, size_t rows, size_t j0) {
  for (size_t r = 0; r < rows; ++r)
    for (size_t v = 0; v < kFloatPanel && j0 + v < g.n; v += kLanes) {
      const size_t j = j0 + v, n = g.n - j < kLanes ? g.n - j : kLanes;
      V y = load(sums + r * kFloatPanel + v);
      if (g.scale != nullptr) y = mul(y, load(g.scale + j));
      if (g.bias != nullptr) y = add(y, load(g.bias + j));
      float* out = g.y + (row + r) * g.ldy + j;
      if (g.accumulate) y = add(y, load_head(out, n));
      store_head(out, y, n);
    }
}

// Rows [row, row + rows), at most kFloatRows, with panels [begin, end), at most kPanelsAtOnce.
void float_block(const FloatGemmArgs& g, size_t row, size_t rows, size_t begin, size_t end,
                 FloatScratch& scratch) {
  const size_t steps = float_steps(g.k);
  const size_t at_once = kActivationSteps / ((rows + kTileRows - 1) / kTileRows);
  for (size_t from = 0; from < steps; from += at_once) {
    const size_t to = steps - from < at_once ? steps : from + at_once;
    for (size_t first = 0; first < rows; first += kTileRows) {
      const size_t height = rows - first < kTileRows ? rows - first : kTileRows;
      uint8_t* activations = scratch.activations + first / kTileRows * at_once * kSplitBytes;
      for (size_t s = from; s < to; ++s)
        for (size_t r = 0; r < height; ++r)
          split(g.a + (row + first + r) * g.lda + s * kFloatDepth, g.k - s * kFloatDepth,
                activations + (s - from) * kSplitBytes + r * kTileBytes);
      const auto h = static_cast<uint8_t>(height);
      configure({h, h, h, kTileRows, kTileRows, kTileRows, h, h});
      for (size_t p = begin; p < end; ++p)
        multiply_floats(
            {activations,
             static_cast<const uint8_t*>(g.packed) + (p * steps + from) * kFloatStepBytes,
             to - from, from == 0, scratch.sums[p - begin] + first * kFloatPanel,
             g.m <= kTileRows});
    }
  }
  for (size_t p = begin; p < end; ++p)
    finish_floats(g, scratch.sums[p - begin], row, rows, p * kFloatPanel);
}

void bf16_gemm(const FloatGemmArgs& g) noexcept {
  FloatScratch scratch;
  for (size_t p = g.panel_begin; p < g.panel_end; p += kPanelsAtOnce)
    for (size_t row = 0; row < g.m; row += kFloatRows)
      float_block(g, row, g.m - row < kFloatRows ? g.m - row : kFloatRows, p,
                  g.panel_end - p < kPanelsAtOnce ? g.panel_end : p + kPanelsAtOnce, scratch);
  _tile_release();
}
