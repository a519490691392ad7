// AMX: int8 products of rows by tiles (tdpbusd: up to 16 rows by 16 channels, 64 products each).
// Panels are [k/64][2][16][16][4]: two tiles of weights, 1 KiB each, for every 64 inputs. All else
// is avx512's.
#include "src/kernels/avx512/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::amx {
namespace {

using namespace avx512;  // NOLINT: its vectors

constexpr size_t kGroup = 16, kDepth = 64, kAlign = kDepth;
constexpr size_t kPanel = 2 * kGroup;

#include "src/kernels/avx512/vnni.inl"
#include "src/kernels/simd/int8.inl"

#include "src/kernels/avx512/pack.inl"

constexpr size_t kTileRows = 16, kTileBytes = 64, kTile = kTileRows * kTileBytes;
constexpr size_t kStepBytes = 2 * kTile;  // of a panel, for 64 inputs

constexpr size_t kMostRows = 2 * kTileRows;  // that are multiplied at once

// Eight tiles, palette 1.
struct alignas(64) TileConfig {
  uint8_t palette, start_row, reserved[14];
  uint16_t row_bytes[16];
  uint8_t rows[16];
};
static_assert(sizeof(TileConfig) == 64);

// What was written before this is in memory after it: the intrinsics of g++ 12 do not say what they
// read, so stores to it could go later, or go.
inline void written() { __asm__ volatile("" : : : "memory"); }

// With so many rows in each.
void configure(const uint8_t (&rows)[8]) {
  TileConfig config = {};
  config.palette = 1;
  for (size_t i = 0; i < 8; ++i) {
    config.row_bytes[i] = kTileBytes;
    config.rows[i] = rows[i];
  }
  __asm__ volatile("" : : "m"(config));  // as written()
  _tile_loadconfig(&config);
}

// A part of a product: up to 32 rows by a panel, for some steps of 64 inputs.
struct Part {
  const uint8_t* a;
  size_t lda;
  const int8_t* b;
  size_t steps;
  bool first;
  int32_t* sums;        // [32][kPanel], to go on from where this is not the first part
  const int8_t* ahead;  // what is fetched into the second cache meanwhile, so many lines a step
  size_t lines;
};

// For so many rows, at most 32.
void configure_rows(size_t rows) {
  const auto first = static_cast<uint8_t>(rows < kTileRows ? rows : kTileRows);
  const auto second = static_cast<uint8_t>(rows > kTileRows ? rows - kTileRows : kTileRows);
  configure({first, first, second, second, first, second, kTileRows, kTileRows});
}

// The tiles' numbers are parts of the instructions. Sums are tiles 0 to 3, activations 4 and 5,
// weights 6 and 7; 2, 3 and 5 are of the rows beyond the first 16. Activations are loaded as what
// isn't used again soon, so that they leave the weights in the first cache (7 ns of 35 a step,
// Emerald Rapids, g++ 12).
template <bool kBeyond16>
void multiply(const Part& p) {
  constexpr size_t kBytes = kPanel * sizeof(int32_t);
  int32_t* below = p.sums + kTileRows * kPanel;
  written();
  if (p.first) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, p.sums, kBytes);
    _tile_loadd(1, p.sums + kGroup, kBytes);
    if constexpr (kBeyond16) {
      _tile_loadd(2, below, kBytes);
      _tile_loadd(3, below + kGroup, kBytes);
    }
  }
  const uint8_t* a = p.a;
  const int8_t* b = p.b;
  const int8_t* ahead = p.ahead;
  for (size_t i = 0; i < p.steps; ++i, a += kDepth, b += kStepBytes) {
    for (size_t l = 0; l < p.lines; ++l, ahead += kTileBytes) __builtin_prefetch(ahead, 0, 2);
    _tile_stream_loadd(4, a, p.lda);
    _tile_loadd(6, b, kTileBytes);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, b + kTile, kTileBytes);
    _tile_dpbusd(1, 4, 7);
    if constexpr (kBeyond16) {
      _tile_stream_loadd(5, a + kTileRows * p.lda, p.lda);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, p.sums, kBytes);
  _tile_stored(1, p.sums + kGroup, kBytes);
  if constexpr (kBeyond16) {
    _tile_stored(2, below, kBytes);
    _tile_stored(3, below + kGroup, kBytes);
  }
}

// Sums [rows, kPanel] of a panel that begins at channel j, without their biases.
void finish(const Int8GemmArgs& g, const int32_t* sums, size_t row, size_t rows, size_t j) {
  for (size_t v = 0; v < kPanel; v += kLanes) {
    const Channels channels = channels_at(g, j + v);
    const I bias = load_i(g.bias + j + v);
    for (size_t r = 0; r < rows; ++r)
      int8_finish(g, channels, add_i(load_i(sums + r * kPanel + v), bias), row + r);
  }
}

constexpr size_t kRowsAtOnce = 8 * kMostRows;         // whose sums are in memory
constexpr size_t kActivationBytes = size_t{1} << 20;  // that stay in the second cache
constexpr size_t kStepsAtOnce = 16;                   // weights, 32 KiB, stay in the first cache

// A panel for rows [begin, end): some steps for all rows, then the next.
void panel(const Int8GemmArgs& g, size_t p, size_t begin, size_t end) {
  alignas(64) int32_t sums[kRowsAtOnce * kPanel];
  const size_t steps = (g.k + kDepth - 1) / kDepth,
               parts = (steps + kStepsAtOnce - 1) / kStepsAtOnce;
  const size_t blocks = (end - begin + kMostRows - 1) / kMostRows;
  const size_t lines = (kStepBytes / kTileBytes + blocks - 1) / blocks;
  size_t configured = 0;
  for (size_t part = 0; part < parts; ++part) {
    const size_t from = steps * part / parts, to = steps * (part + 1) / parts;
    // Few rows, whose weights come from memory: what follows in two steps. More: the next part.
    // Where it is the last, whatever follows.
    const int8_t* ahead = g.packed + (p * steps + (blocks == 1 ? from + 2 : to)) * kStepBytes;
    for (size_t row = begin; row < end; row += kMostRows) {
      const size_t rows = end - row < kMostRows ? end - row : kMostRows;
      if (rows != configured) configure_rows(configured = rows);
      const Part work = {static_cast<const uint8_t*>(g.a) + row * g.lda + from * kDepth,
                         g.lda,
                         g.packed + (p * steps + from) * kStepBytes,
                         to - from,
                         part == 0,
                         sums + (parts == 1 ? 0 : (row - begin) * kPanel),
                         ahead,
                         lines};
      ahead += work.steps * lines * kTileBytes;
      rows > kTileRows ? multiply<true>(work) : multiply<false>(work);
      if (part + 1 == parts) finish(g, work.sums, row, rows, p * kPanel);
    }
  }
}

// One row: vpdpbusd, four sums at a time.
void one_row(const Int8GemmArgs& g) {
  const size_t steps = (g.k + kDepth - 1) / kDepth;
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) {
    const uint8_t* a = static_cast<const uint8_t*>(g.a);
    const int8_t* b = g.packed + p * steps * kStepBytes;
    I c[2][2];
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v) c[v][0] = c[v][1] = set1_i(0);
    for (size_t i = 0; i < steps; ++i, a += kDepth, b += kStepBytes)
#pragma GCC unroll 16
      for (size_t u = 0; u < kTileRows; ++u) {
        int32_t unit;
        __builtin_memcpy(&unit, a + u * kUnit, kUnit);
        const I x = set1_i(unit);
#pragma GCC unroll 2
        for (size_t v = 0; v < 2; ++v)
          c[v][u % 2] = multiply_add_i(c[v][u % 2], x, load_i(b + v * kTile + u * kTileBytes));
      }
    alignas(64) int32_t sums[kPanel];
#pragma GCC unroll 2
    for (size_t v = 0; v < 2; ++v)
      store(reinterpret_cast<float*>(sums) + v * kLanes, bits_of(add_i(c[v][0], c[v][1])));
    finish(g, sums, 0, 1, p * kPanel);
  }
}

// A core's tiles are its thread's while it multiplies.
void int8_gemm(const Int8GemmArgs& g) noexcept {
  if (g.m == 1) return one_row(g);
  const size_t fit = kActivationBytes / (g.k + 1) / kMostRows * kMostRows;
  const size_t at_once = fit < kMostRows ? kMostRows : (fit < kRowsAtOnce ? fit : kRowsAtOnce);
  for (size_t row = 0; row < g.m; row += at_once)
    for (size_t p = g.panel_begin; p < g.panel_end; ++p)
      panel(g, p, row, g.m - row < at_once ? g.m : row + at_once);
  _tile_release();
}

#include "src/kernels/amx/bfloat16.inl"

// Weights of other types are avx512's.

void float_pack(const void* w, FloatType type, size_t n, size_t k, size_t begin, size_t end,
                void* packed) noexcept {
  (type == FloatType::kBF16 ? bf16_pack(w, n, k, begin, end, packed)
                            : avx512::table().float_pack(w, type, n, k, begin, end, packed));
}

void float_row(const void* packed, FloatType type, size_t k, size_t row, float* out) noexcept {
  (type == FloatType::kBF16 ? bf16_row(packed, k, row, out)
                            : avx512::table().float_row(packed, type, k, row, out));
}

void float_gemm(const FloatGemmArgs& g) noexcept {
  (g.type == FloatType::kBF16 ? bf16_gemm(g) : avx512::table().float_gemm(g));
}

double tile_peak(size_t steps) noexcept {
  alignas(64) static constexpr uint8_t numbers[kTileRows * kTileBytes] = {1};
  configure_rows(kMostRows);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, numbers, kTileBytes);
  _tile_loadd(5, numbers, kTileBytes);
  for (size_t i = 0; i < steps; ++i) {
    _tile_dpbusd(0, 4, 5);
    _tile_dpbusd(1, 4, 5);
    _tile_dpbusd(2, 4, 5);
    _tile_dpbusd(3, 4, 5);
  }
  alignas(64) int32_t sums[kTileRows * kLanes];
  _tile_stored(0, sums, kTileBytes);
  _tile_release();
  volatile int32_t sink = sums[0];
  (void)sink;
  return 2.0 * 4 * kTileRows * kLanes * kTileBytes * static_cast<double>(steps);
}

}  // namespace

const KernelTable& table() noexcept {
  static const KernelTable t = [] {
    KernelTable own = avx512::table();
    if (own.float_panel != kFloatPanel) __builtin_trap();
    own.name = "amx";
    own.int8_panel = kPanel;
    own.int8_k_align = kAlign;
    own.int8_pack = int8_pack_transposing;
    own.int8_gemm = int8_gemm;
    own.int8_peak = tile_peak;
    own.bf16_k_align = kFloatDepth;
    own.float_pack = float_pack;
    own.float_row = float_row;
    own.float_gemm = float_gemm;
    return own;
  }();
  return t;
}

}  // namespace octet::kernels::amx
