// The instructions of AMX that amx.cc uses, element by element (Intel's architecture manual says
// what each does). A thread's tiles; to use them unconfigured, or of shapes that do not fit, ends
// the test.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace octet::kernels::emulated {

struct Tiles {
  bool configured = false;
  uint16_t row_bytes[8];
  uint8_t rows[8];
  uint8_t data[8][16][64];
};
inline thread_local Tiles tiles;

inline Tiles& usable_tiles(int tile) {
  if (!tiles.configured || tile < 0 || tile > 7) std::abort();
  return tiles;
}

inline void tile_loadconfig(const void* config) {
  const auto* c = static_cast<const uint8_t*>(config);
  if (c[0] != 1) std::abort();  // the palette
  for (size_t i = 0; i < 8; ++i) {
    std::memcpy(&tiles.row_bytes[i], c + 16 + 2 * i, 2);
    tiles.rows[i] = c[48 + i];
    if (tiles.row_bytes[i] > 64 || tiles.rows[i] > 16) std::abort();
  }
  std::memset(tiles.data, 0, sizeof(tiles.data));
  tiles.configured = true;
}
inline void tile_release() { tiles.configured = false; }
inline void tile_zero(int tile) {
  Tiles& t = usable_tiles(tile);
  std::memset(t.data[tile], 0, sizeof(t.data[tile]));
}
inline void tile_loadd(int tile, const void* from, size_t stride) {
  Tiles& t = usable_tiles(tile);
  tile_zero(tile);
  for (size_t r = 0; r < t.rows[tile]; ++r)
    std::memcpy(t.data[tile][r], static_cast<const uint8_t*>(from) + r * stride, t.row_bytes[tile]);
}
inline void tile_stored(int tile, void* to, size_t stride) {
  const Tiles& t = usable_tiles(tile);
  for (size_t r = 0; r < t.rows[tile]; ++r)
    std::memcpy(static_cast<uint8_t*>(to) + r * stride, t.data[tile][r], t.row_bytes[tile]);
}
// c[m][n] += sum over k and four bytes of a[m][k] (unsigned) b[k][n] (signed), modulo 2^32.
inline void tile_dpbusd(int c, int a, int b) {
  Tiles& t = usable_tiles(c);
  const size_t depth = t.row_bytes[a] / 4u;
  if (t.rows[b] != depth || t.rows[c] != t.rows[a] || t.row_bytes[c] != t.row_bytes[b])
    std::abort();
  for (size_t m = 0; m < t.rows[c]; ++m)
    for (size_t n = 0; n < t.row_bytes[c] / 4u; ++n) {
      uint32_t sum;
      std::memcpy(&sum, &t.data[c][m][4 * n], 4);
      for (size_t k = 0; k < depth; ++k)
        for (size_t i = 0; i < 4; ++i)
          sum += static_cast<uint32_t>(int32_t{t.data[a][m][4 * k + i]} *
                                       static_cast<int8_t>(t.data[b][k][4 * n + i]));
      std::memcpy(&t.data[c][m][4 * n], &sum, 4);
    }
}

// Numbers below 2^-126 are taken and given as zero.
inline float flushed(float v) { return std::fabs(v) < 0x1p-126f ? std::copysign(0.0f, v) : v; }
inline float bf16_at(const uint8_t* p) {
  uint16_t bits;
  std::memcpy(&bits, p, 2);
  const uint32_t wide = uint32_t{bits} << 16;
  float v;
  std::memcpy(&v, &wide, 4);
  return flushed(v);
}
// c[m][n] += the products of even and of odd elements, each summed in order, then added.
inline void tile_dpbf16ps(int c, int a, int b) {
  Tiles& t = usable_tiles(c);
  const size_t depth = t.row_bytes[a] / 4u;
  if (t.rows[b] != depth || t.rows[c] != t.rows[a] || t.row_bytes[c] != t.row_bytes[b])
    std::abort();
  for (size_t m = 0; m < t.rows[c]; ++m)
    for (size_t n = 0; n < t.row_bytes[c] / 4u; ++n) {
      float sums[2] = {0, 0}, old;
      for (size_t k = 0; k < depth; ++k)
        for (size_t i = 0; i < 2; ++i)
          sums[i] = flushed(std::fma(bf16_at(&t.data[a][m][4 * k + 2 * i]),
                                     bf16_at(&t.data[b][k][4 * n + 2 * i]), sums[i]));
      std::memcpy(&old, &t.data[c][m][4 * n], 4);
      old = flushed(flushed(old) + flushed(sums[0] + sums[1]));
      std::memcpy(&t.data[c][m][4 * n], &old, 4);
    }
}

}  // namespace octet::kernels::emulated
