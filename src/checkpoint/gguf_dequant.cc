// Block layouts (all little-endian; d and m are halves; element i of a block of 32 or 256):
//
//   Q4_0  d, 16 bytes of nibbles                 x = (q - 8) d
//   Q4_1  d, m, 16 bytes of nibbles              x = q d + m
//   Q5_0  d, 32 fifth bits, 16 bytes of nibbles  x = (q - 16) d
//   Q5_1  d, m, 32 fifth bits, 16 nibble bytes   x = q d + m
//   Q8_0  d, 32 int8                             x = q d
//   Q2_K  16 scale/min nibble pairs, 64 bytes of 2-bit fields, d, m      x = d s q - m n
//   Q3_K  32 bytes of third bits, 64 bytes of 2-bit fields, 16 six-bit scales in 12 bytes, d
//                                                                        x = d (s - 32) (q - 4)
//   Q4_K  d, m, 8 six-bit scales and mins in 12 bytes, 128 nibble bytes  x = d s q - m n
//   Q5_K  as Q4_K with 32 bytes of fifth bits before the nibbles
//   Q6_K  128 bytes of low nibbles, 64 bytes of 2-bit fields, 16 int8 scales, d
//                                                                        x = d s (q - 32)
//
// In blocks of 32, byte j holds element j in its low and element j + 16 in its high nibble.
#include "src/checkpoint/gguf_dequant.h"

#include <cstdint>
#include <cstring>

#include "src/base/error.h"
#include "src/base/float16.h"

namespace octet {
namespace {

uint16_t load16(const uint8_t* p) { return static_cast<uint16_t>(p[0] | (p[1] << 8)); }
float f16_at(const uint8_t* p) { return to_float(f16{load16(p)}); }

// The two nibble halves of a block of 32; bit j of `fifth` is element j's fifth bit.
template <typename Decode>
void nibbles32(const uint8_t* q, uint32_t fifth, float* out, Decode decode) {
  for (uint32_t j = 0; j < 16; ++j) {
    const uint32_t lo = (q[j] & 15u) | (((fifth >> j) & 1u) << 4);
    const uint32_t hi = (q[j] >> 4) | (((fifth >> (j + 16)) & 1u) << 4);
    out[j] = decode(static_cast<int>(lo));
    out[j + 16] = decode(static_cast<int>(hi));
  }
}

uint32_t load32(const uint8_t* p) {
  return static_cast<uint32_t>(load16(p)) | (static_cast<uint32_t>(load16(p + 2)) << 16);
}

void q4_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  nibbles32(b + 2, 0, out, [d](int q) { return static_cast<float>(q - 8) * d; });
}

void q4_1(const uint8_t* b, float* out) {
  const float d = f16_at(b), m = f16_at(b + 2);
  nibbles32(b + 4, 0, out, [d, m](int q) { return static_cast<float>(q) * d + m; });
}

void q5_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  nibbles32(b + 6, load32(b + 2), out, [d](int q) { return static_cast<float>(q - 16) * d; });
}

void q5_1(const uint8_t* b, float* out) {
  const float d = f16_at(b), m = f16_at(b + 2);
  nibbles32(b + 8, load32(b + 4), out, [d, m](int q) { return static_cast<float>(q) * d + m; });
}

void q8_0(const uint8_t* b, float* out) {
  const float d = f16_at(b);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<int8_t>(b[2 + i])) * d;
}

void q2_k(const uint8_t* b, float* out) {
  const uint8_t* scales = b;
  const uint8_t* fields = b + 16;
  const float d = f16_at(b + 80), m = f16_at(b + 82);
  // 16 groups of 16: group g is bit pair (g / 2) % 4 of a run of 32 bytes, two runs in all.
  for (int g = 0; g < 16; ++g) {
    const uint8_t* q = fields + (g / 8) * 32 + (g % 2) * 16;
    const int shift = 2 * ((g / 2) % 4);
    const float scale = d * static_cast<float>(scales[g] & 15);
    const float minimum = m * static_cast<float>(scales[g] >> 4);
    for (int i = 0; i < 16; ++i)
      out[16 * g + i] = scale * static_cast<float>((q[i] >> shift) & 3) - minimum;
  }
}

void q3_k(const uint8_t* b, float* out) {
  const uint8_t* third = b;
  const uint8_t* fields = b + 32;
  const uint8_t* scales = b + 96;
  const float d = f16_at(b + 108);
  for (int g = 0; g < 16; ++g) {
    // Scale g: four low bits in nibble g of the first 8 bytes, two high bits in the last 4.
    const int lo = g < 8 ? scales[g] & 15 : scales[g - 8] >> 4;
    const int hi = (scales[8 + g % 4] >> (2 * (g / 4))) & 3;
    const float scale = d * static_cast<float>((lo | (hi << 4)) - 32);
    const uint8_t* q = fields + (g / 8) * 32 + (g % 2) * 16;
    const uint8_t* high = third + (g % 2) * 16;
    const int shift = 2 * ((g / 2) % 4);
    for (int i = 0; i < 16; ++i) {
      const int value = ((q[i] >> shift) & 3) - (((high[i] >> (g / 2)) & 1) != 0 ? 0 : 4);
      out[16 * g + i] = scale * static_cast<float>(value);
    }
  }
}

// Scale and minimum j (0 to 7) of Q4_K and Q5_K: six bits each in 12 bytes. The first four of each
// have a byte of their own, the upper bits of which are lent to the last four.
void scale_and_min(const uint8_t* p, int j, int& scale, int& minimum) {
  if (j < 4) {
    scale = p[j] & 63;
    minimum = p[j + 4] & 63;
  } else {
    scale = (p[j + 4] & 15) | ((p[j - 4] >> 6) << 4);
    minimum = (p[j + 4] >> 4) | ((p[j] >> 6) << 4);
  }
}

// Q4_K, and Q5_K when `fifth` is not null. Group g of 32 is the low (g even) or high nibbles of a
// run of 32 bytes, its fifth bits are bit g of the 32 bytes at `fifth`.
void k_nibbles(const uint8_t* b, const uint8_t* fifth, const uint8_t* fields, float* out) {
  const float d = f16_at(b), m = f16_at(b + 2);
  for (int g = 0; g < 8; ++g) {
    int s, n;
    scale_and_min(b + 4, g, s, n);
    const float scale = d * static_cast<float>(s);
    const float minimum = m * static_cast<float>(n);
    const uint8_t* q = fields + (g / 2) * 32;
    for (int i = 0; i < 32; ++i) {
      int value = (g % 2) == 0 ? q[i] & 15 : q[i] >> 4;
      if (fifth != nullptr) value |= ((fifth[i] >> g) & 1) << 4;
      out[32 * g + i] = scale * static_cast<float>(value) - minimum;
    }
  }
}

void q4_k(const uint8_t* b, float* out) { k_nibbles(b, nullptr, b + 16, out); }
void q5_k(const uint8_t* b, float* out) { k_nibbles(b, b + 16, b + 48, out); }

void q6_k(const uint8_t* b, float* out) {
  const float d = f16_at(b + 208);
  // 8 groups of 32: two runs of four groups; in a run, groups 0 and 1 are low nibbles, 2 and 3 the
  // high nibbles of the same 64 bytes; group g's upper bits are bit pair g % 4 of 32 bytes.
  for (int g = 0; g < 8; ++g) {
    const uint8_t* low = b + (g / 4) * 64 + (g % 2) * 32;
    const uint8_t* high = b + 128 + (g / 4) * 32;
    const uint8_t* scales = b + 192 + 2 * g;
    for (int i = 0; i < 32; ++i) {
      const int lo = (g % 4) < 2 ? low[i] & 15 : low[i] >> 4;
      const int hi = (high[i] >> (2 * (g % 4))) & 3;
      const float scale = d * static_cast<float>(static_cast<int8_t>(scales[i / 16]));
      out[32 * g + i] = scale * static_cast<float>((lo | (hi << 4)) - 32);
    }
  }
}

void f32(const uint8_t* b, float* out) { std::memcpy(out, b, sizeof *out); }
void f16_(const uint8_t* b, float* out) { *out = f16_at(b); }
void bf16_(const uint8_t* b, float* out) { *out = to_float(bf16{load16(b)}); }

struct Format {
  GgufType type;
  GgufBlock block;
  void (*decode)(const uint8_t* block, float* out);
};

constexpr Format kFormats[] = {
    {GgufType::kF32, {1, 4}, f32},       {GgufType::kF16, {1, 2}, f16_},
    {GgufType::kBF16, {1, 2}, bf16_},    {GgufType::kQ4_0, {32, 18}, q4_0},
    {GgufType::kQ4_1, {32, 20}, q4_1},   {GgufType::kQ5_0, {32, 22}, q5_0},
    {GgufType::kQ5_1, {32, 24}, q5_1},   {GgufType::kQ8_0, {32, 34}, q8_0},
    {GgufType::kQ2_K, {256, 84}, q2_k},  {GgufType::kQ3_K, {256, 110}, q3_k},
    {GgufType::kQ4_K, {256, 144}, q4_k}, {GgufType::kQ5_K, {256, 176}, q5_k},
    {GgufType::kQ6_K, {256, 210}, q6_k},
};

const Format* find(GgufType type) {
  for (const Format& f : kFormats)
    if (f.type == type) return &f;
  return nullptr;
}

}  // namespace

std::optional<GgufBlock> gguf_block(GgufType type) {
  const Format* format = find(type);
  return format == nullptr ? std::nullopt : std::optional(format->block);
}

void gguf_dequantize(GgufType type, std::span<const std::byte> data, std::span<float> out) {
  const Format* format = find(type);
  OCTET_CHECK(format != nullptr && out.size() % format->block.elements == 0);
  const size_t blocks = out.size() / format->block.elements;
  OCTET_CHECK(data.size() == blocks * format->block.bytes);
  const auto* in = reinterpret_cast<const uint8_t*>(data.data());
  for (size_t i = 0; i < blocks; ++i)
    format->decode(in + i * format->block.bytes, out.data() + i * format->block.elements);
}

}  // namespace octet
