// The compute kernels: plain functions over pointers and strides, one table of them per instruction
// set (ref, avx2, avxvnni, avx512, amx), chosen once, at first use.
//
// This header holds declarations only: it is included by files that are compiled with the flags of
// one instruction set, and an inline function emitted there could end up in the whole program.
//
// Conventions: m rows (tokens), n outputs, k inputs. Strides `ld…` count elements. The functions of
// a table are noexcept and take checked arguments. Every output element is summed in the same order
// whatever m is, so a row's result does not depend on the batch it runs in.
//
// W8A8 arithmetic (design: docs/kernels.md). Activations are quantized as
//     xq = sat8(rne(x / scale) + offset)
// and kept in the form that the instruction set multiplies fastest: xq + shift in `act_bytes` bytes
// (u8 with shift 128 for VNNI, int16 for AVX2, int8 for ref). The packer's caller folds the shift:
//     bias'[j] = quant_bias[j] - shift * sum_k w[j,k]
// and y[j] = float(sum_k (xq + shift) * w[j,k] + bias'[j]) * deq_scale[j]: the same integers and so
// the same floats on every set. With a scale of its own for every token instead of one for all,
//     s = max|x| / 127, xq = rne(x / s),
//     y[j] = float(sum_k ...) * weight_scale[j] * s + bias[j], rounded after each operation.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octet::kernels {

// How numbers are stored that are computed in float32. kI8: whole numbers; their scales are the
// caller's (GEMM: `scale`, `offset`; KV pages: folded into queries and outputs).
enum class FloatType : uint8_t { kF32, kF16, kBF16, kI8 };

struct Int8GemmArgs {
  const void* a;  // [m, lda] quantized activations (act_bytes each)
  size_t lda;     // elements, >= padded k
  size_t m;
  const int8_t* packed;           // panels of int8_panel channels, from int8_pack
  size_t k;                       // unpadded inputs
  size_t n;                       // outputs
  size_t panel_begin, panel_end;  // the panels to compute
  const int32_t* bias;            // [panels * int8_panel] bias', zero-padded
  const float* scale;             // [panels * int8_panel] deq_scale, zero-padded
  float* y;                       // [m, ldy]
  size_t ldy;
  bool accumulate;                    // y += instead of y =
  const float* row_scale = nullptr;   // [m] multiplies the rows after `scale`; or none
  const float* float_bias = nullptr;  // [panels * int8_panel] added after the scales; or none
  // [m, ldy] or nullptr: takes sum_k a w + bias' as they are, and y is left alone.
  int32_t* sums = nullptr;
};

struct FloatGemmArgs {
  const float* a;  // [m, lda]
  size_t lda;
  size_t m;
  const void* packed;  // panels of float_panel channels, from float_pack
  FloatType type;      // of the weights
  size_t k, n;
  size_t panel_begin, panel_end;
  const float* bias;  // [panels * float_panel] or nullptr
  float* y;           // [m, ldy]
  size_t ldy;
  bool accumulate;
  // [panels * float_panel] or nullptr: y = scale[j] * sum_k a[k] * (w[j,k] - offset[j]) + bias[j].
  const float* scale = nullptr;
  const float* offset = nullptr;  // with kI8 only
};

// KV pages hold kBlockTokens tokens of every KV head of one layer:
//   K [kv_head][head_dim][kBlockTokens]   (so that scores need no horizontal sums)
//   V [kv_head][kBlockTokens][head_dim]
inline constexpr size_t kBlockTokens = 32;
inline constexpr size_t kMaxHeadDim = 512;
// Keys are summed in blocks of this many, and the sums of blocks one after another, whoever
// computes a block: so a row's result does not depend on how its keys are shared.
inline constexpr size_t kAttentionBlock = 128;

// Causal attention of finite numbers, for `tokens` query tokens at positions position, position +
// 1, ... of one sequence, for the `group` query heads that share KV head `kv_head`.
struct AttentionArgs {
  const float* q;  // [tokens, ldq]: query head h of a token at + h * head_dim
  size_t ldq;
  float* out;  // [tokens, ldo], same head layout
  size_t ldo;
  size_t tokens, position;
  size_t group, kv_head, head_dim;
  const void* k_pool;     // layer's K pages
  const void* v_pool;     // layer's V pages
  size_t page_elements;   // kv_heads * head_dim * kBlockTokens
  const int32_t* blocks;  // page numbers of the sequence, in order
  FloatType type;         // of the pages
  float scale;            // multiplies the scores: 1 / sqrt(head_dim)
  // nullptr: over all blocks of keys, into out. Otherwise blocks [block_begin, block_end) alone,
  // into states [block][tokens * group][head_dim + 2] (sums, maximum of the scores, sum of the
  // weights), for attention_merge().
  float* states = nullptr;
  size_t block_begin = 0, block_end = 0;
};

// A row x [k] as int8 codes: x = scale * codes + what they miss.
struct RowCodes {
  float scale;  // max|x| / 127, or 1 where that is zero
  float norm;   // |x|
  float error;  // |x - scale * codes|; both with the rounding of k float operations
};

inline constexpr size_t kMaximumBlock = 64;  // values that share one of block_maxima()

struct KernelTable {
  const char* name;

  // int8 ------------------------------------------------------------------------------------------
  size_t int8_panel;    // channels a panel
  size_t int8_k_align;  // k is padded to a multiple of this with zero weights
  size_t act_bytes;
  int32_t act_shift;
  // w [n, k] row-major -> panels [begin, end) of packed; a panel takes int8_panel * padded k bytes.
  void (*int8_pack)(const int8_t* w, size_t n, size_t k, size_t begin, size_t end,
                    int8_t* packed) noexcept;
  // One row x [k] -> xq, with zeros up to what is multiplied at once; what lies beyond, up to
  // padded k, meets weights of zero.
  void (*quantize)(const float* x, size_t k, float scale, float offset, void* xq) noexcept;
  // The same with the row's own scale, max|x| / 127, which it returns (1 when that is zero).
  float (*quantize_token)(const float* x, size_t k, void* xq) noexcept;
  void (*int8_gemm)(const Int8GemmArgs& args) noexcept;

  // float -----------------------------------------------------------------------------------------
  size_t float_panel;
  size_t bf16_k_align = 1;  // k of bfloat16 weights is padded to a multiple of this with zeros
  // w [n, k] row-major, aligned to bytes -> panels [begin, end); a panel takes float_panel_bytes().
  void (*float_pack)(const void* w, FloatType type, size_t n, size_t k, size_t begin, size_t end,
                     void* packed) noexcept;
  void (*float_gemm)(const FloatGemmArgs& args) noexcept;
  // Row `row` of the packed weights, as float_pack() was given it, [k].
  void (*float_row)(const void* packed, FloatType type, size_t k, size_t row, float* out) noexcept;

  // y = x / sqrt(mean(x^2) + eps) * w (+ b): x, w, y [n]; b [n] or nullptr.
  void (*rms_norm)(const float* x, const float* w, const float* b, size_t n, float eps,
                   float* y) noexcept;
  // Rotates head_dim values in place, halves paired (x[i], x[i + head_dim/2]); cos, sin
  // [head_dim/2].
  void (*rope)(float* x, const float* cos, const float* sin, size_t head_dim) noexcept;
  // out = gate * sigmoid(gate) * up, all [n]; out may be gate or up.
  void (*silu_mul)(const float* gate, const float* up, size_t n, float* out) noexcept;
  // x <- e^((x - max) * inverse), x [n] at most max, -infinity included, inverse above 0; 0 for
  // e^-87 and less.
  void (*softmax_weights)(float* x, size_t n, float max, float inverse) noexcept;
  // Appends one token's K and V rows [head_dim] at place `slot` (< kBlockTokens) of a page's KV
  // head (k_page, v_page point to that head's part). kI8: sat8(rne(value)).
  void (*kv_store)(const float* k, const float* v, size_t head_dim, size_t slot, FloatType type,
                   void* k_page, void* v_page) noexcept;
  void (*attention)(const AttentionArgs& args) noexcept;
  // From the states of all blocks, [0, block_end), to out: the same as in one call, bit for bit.
  void (*attention_merge)(const AttentionArgs& args) noexcept;

  // screening of a head (head_screen.h) -----------------------------------------------------------
  // x <- x H for one row x [n], n a power of two: H the normalized Hadamard matrix, in the order of
  // Sylvester.
  void (*hadamard)(float* x, size_t n) noexcept;
  // q [k] = rne(x / scale) of a row x [k].
  RowCodes (*int8_codes)(const float* x, size_t k, int8_t* q) noexcept;
  // y += x a + e b, all [n].
  void (*add_bounds)(float* y, const float* a, const float* b, float x, float e, size_t n) noexcept;
  // The largest of every kMaximumBlock neighbours of x [n], which are not NaN.
  void (*block_maxima)(const float* x, size_t n, float* maxima) noexcept;

  // Limits of the machine, for bench/: runs `steps` rounds of the multiply instruction of this set
  // on registers and returns the operations done (a multiply-add counts two).
  double (*int8_peak)(size_t steps) noexcept;
  double (*float_peak)(size_t steps) noexcept;
  // Reads `count` floats (a multiple of 64) with wide loads and returns their sum.
  float (*read_memory)(const float* data, size_t count) noexcept;
};

// The table of the set that selected_isa() (src/machine/cpu.h) chose.
const KernelTable& table();
// Makes it this one, for tests; before the first call of table().
void use_table(const KernelTable& t);
// A given set's table, or nullptr when this build or CPU lacks it: for tests and benches.
const KernelTable* table_named(const char* name);

// Sizes that callers of the packers need.
size_t padded_k(const KernelTable& t, size_t k);
size_t int8_panels(const KernelTable& t, size_t n);
size_t float_panels(const KernelTable& t, size_t n);
size_t float_panel_bytes(const KernelTable& t, FloatType type, size_t k);
size_t float_type_size(FloatType type);

// The instruction sets' own tables (src/kernels/<set>/).
namespace ref {
const KernelTable& table() noexcept;
}
namespace avx2 {
const KernelTable& table() noexcept;
}
namespace avxvnni {
const KernelTable& table() noexcept;
}
namespace avx512 {
const KernelTable& table() noexcept;
}
namespace amx {
const KernelTable& table() noexcept;
}

}  // namespace octet::kernels
