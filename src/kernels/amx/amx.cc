// AMX: int8 products of many rows by tiles (tdpbusd: 16 x 16 sums of 64 products), of few rows by
// vpdpbusd on the same panels [k/4][64][4]: 16 inputs-by-four of 16 channels are a tile of weights,
// 256 bytes from row to row. All else is avx512's.
#include "src/kernels/avx512/vec.h"
#include "src/kernels/kernels.h"

namespace octet::kernels::amx {
namespace {

using namespace avx512;  // NOLINT: its vectors

constexpr size_t kAlign = 64;

#include "src/kernels/avx512/vnni.inl"
#include "src/kernels/simd/int8.inl"

constexpr size_t kTileRows = 16, kTileBytes = 64;

// Eight tiles of 16 rows of 64 bytes, palette 1.
struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {kTileBytes, kTileBytes, kTileBytes, kTileBytes,
                            kTileBytes, kTileBytes, kTileBytes, kTileBytes};
  uint8_t rows[16] = {kTileRows, kTileRows, kTileRows, kTileRows,
                      kTileRows, kTileRows, kTileRows, kTileRows};
};
static_assert(sizeof(TileConfig) == 64);
constexpr TileConfig kConfig;

// 16 x 16 sums, in memory, to rows from `row` and channels from j on.
void finish_tile(const Int8GemmArgs& g, const int32_t* sums, size_t row, size_t j) {
  for (size_t r = 0; r < kTileRows; ++r) {
    const I s = load_i(sums + r * kLanes);
    if (g.sums != nullptr)
      int8_store(g, bits_of(s), row + r, j);
    else
      int8_finish(g, to_floats(s), row + r, j);
  }
}

// The tiles' numbers are parts of the instructions. Sums are tiles 0 to 3 and begin at the bias,
// the same for all rows; activations 4 and 5, weights 6 and 7.

void store_sums(int32_t (&sums)[4][kTileRows * kLanes]) {
  _tile_stored(0, sums[0], kTileBytes);
  _tile_stored(1, sums[1], kTileBytes);
  _tile_stored(2, sums[2], kTileBytes);
  _tile_stored(3, sums[3], kTileBytes);
}

// 32 rows by 32 channels, each tile used twice.
void tiles_32x32(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j) {
  const uint8_t* a = static_cast<const uint8_t*>(g.a) + row * g.lda;
  _tile_loadd(0, g.bias + j, 0);
  _tile_loadd(1, g.bias + j + kLanes, 0);
  _tile_loadd(2, g.bias + j, 0);
  _tile_loadd(3, g.bias + j + kLanes, 0);
  for (size_t k = 0; k < g.k; k += kTileBytes, a += kTileBytes, b += kTileRows * kStepBytes) {
    _tile_loadd(4, a, g.lda);
    _tile_loadd(6, b, kStepBytes);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, b + kTileBytes, kStepBytes);
    _tile_dpbusd(1, 4, 7);
    _tile_loadd(5, a + kTileRows * g.lda, g.lda);
    _tile_dpbusd(2, 5, 6);
    _tile_dpbusd(3, 5, 7);
  }
  alignas(64) int32_t sums[4][kTileRows * kLanes];
  store_sums(sums);
  for (size_t i = 0; i < 4; ++i)
    finish_tile(g, sums[i], row + i / 2 * kTileRows, j + i % 2 * kLanes);
}

// 16 rows by the 64 channels of a panel.
void tiles_16x64(const Int8GemmArgs& g, const int8_t* b, size_t row, size_t j) {
  const uint8_t* a = static_cast<const uint8_t*>(g.a) + row * g.lda;
  _tile_loadd(0, g.bias + j, 0);
  _tile_loadd(1, g.bias + j + kLanes, 0);
  _tile_loadd(2, g.bias + j + 2 * kLanes, 0);
  _tile_loadd(3, g.bias + j + 3 * kLanes, 0);
  for (size_t k = 0; k < g.k; k += kTileBytes, a += kTileBytes, b += kTileRows * kStepBytes) {
    _tile_loadd(4, a, g.lda);
    _tile_loadd(6, b, kStepBytes);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, b + kTileBytes, kStepBytes);
    _tile_dpbusd(1, 4, 7);
    _tile_loadd(6, b + 2 * kTileBytes, kStepBytes);
    _tile_dpbusd(2, 4, 6);
    _tile_loadd(7, b + 3 * kTileBytes, kStepBytes);
    _tile_dpbusd(3, 4, 7);
  }
  alignas(64) int32_t sums[4][kTileRows * kLanes];
  store_sums(sums);
  for (size_t i = 0; i < 4; ++i) finish_tile(g, sums[i], row, j + i * kLanes);
}

// A core's tiles are its thread's while it multiplies.
void tile_gemm(const Int8GemmArgs& g) noexcept {
  if (g.m < kTileRows) return int8_gemm(g);
  _tile_loadconfig(&kConfig);
  const size_t panel_bytes = (g.k + kAlign - 1) / kAlign * kAlign * kPanel;
  for (size_t p = g.panel_begin; p < g.panel_end; ++p) {
    const int8_t* b = g.packed + p * panel_bytes;
    size_t row = 0;
    for (; row + 2 * kTileRows <= g.m; row += 2 * kTileRows)
      for (size_t half = 0; half < 2; ++half)
        tiles_32x32(g, b + half * 2 * kTileBytes, row, p * kPanel + half * 2 * kLanes);
    for (; row + kTileRows <= g.m; row += kTileRows) tiles_16x64(g, b, row, p * kPanel);
    int8_rows(g, p, row);
  }
  _tile_release();
}

double tile_peak(size_t steps) noexcept {
  alignas(64) static constexpr uint8_t numbers[kTileRows * kTileBytes] = {1};
  _tile_loadconfig(&kConfig);
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
    own.name = "amx";
    own.int8_k_align = kAlign;
    own.int8_pack = int8_pack;
    own.int8_gemm = tile_gemm;
    own.int8_peak = tile_peak;
    return own;
  }();
  return t;
}

}  // namespace octet::kernels::amx
