// How a linear is stored and computed: one row for each quantization type, with its word, its
// tensors and their rules, and what loaders make of it (docs/formats.md). Whatever writes, reads,
// checks or plans quantized linears goes by these rows.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>

#include "src/checkpoint/dtype.h"
#include "src/checkpoint/safetensors.h"

namespace octet {

enum class Scheme { kFloat, kW8A8, kW8A8Dynamic, kW8A16, kW8A8Mix };

// What stands behind a linear's name in those of its tensors.
namespace suffix {
inline constexpr const char* kWeightScale = ".weight_scale";
inline constexpr const char* kWeightOffset = ".weight_offset";
inline constexpr const char* kInputScale = ".input_scale";
inline constexpr const char* kInputOffset = ".input_offset";
inline constexpr const char* kQuantBias = ".quant_bias";
inline constexpr const char* kDeqScale = ".deq_scale";
inline constexpr const char* kInputZeroPoint = ".input_zero_point";  // of compressed-tensors
inline constexpr const char* kKvScale = ".kv_cache_scale";           // of k_proj and v_proj
inline constexpr const char* kKvOffset = ".kv_cache_offset";
}  // namespace suffix

// The dtypes in which a checkpoint's numbers stand.
struct StoredTypes {
  DType floats;     // norms, float linears
  DType linears;    // floats of quantized linears
  DType deq_scale;  // kF32, or kI64: the bits of a float32
};

// One tensor beside the int8 weight [n, k] of a linear.
struct QuantTensor {
  enum class Role {
    kWeightScale,
    kWeightOffset,
    kInputScale,
    kInputOffset,
    kQuantBias,
    kDeqScale,
    kKvScale,
    kKvOffset
  };
  enum class Form { kOne, kRow, kColumn, kAnyColumn };  // [1] or []; [n]; [n, 1]; any of these
  enum class Type { kFloat32, kFloat, kFloatOrInt8, kInt32, kInt8OrInt32, kDeqScale };
  enum class Values { kFinite, kPositive, kInt8, kZero };
  Role role;
  const char* suffix;  // suffix::kWeightScale
  Form form;
  Type type;
  Values values;
  bool needed = true;  // else it may be absent
  bool spare = false;  // nobody reads it; some layouts store it
  Shape shape(uint64_t n) const;
  // Of the tensor as this program writes it.
  DType stored_as(const StoredTypes& types) const;
};

struct SchemeRow {
  Scheme scheme;
  const char* word;         // in descriptions and in --type
  const char* mindie_word;  // in MindIE's older layout, which does not have them all
  const char* short_word;   // for people, in a narrow cell: what scales the inputs
  bool int8_weights;
  bool static_input;  // a static range of its input, learnt by calibration
  bool per_token;     // tokens, of prompts at least, have a scale each
  int rank;           // the highest of a model's types stands for the model (msModelSlim v1)
  // Beside the weight, in the order in which they are written: in Ascend's form, and in that of
  // compressed-tensors, where it cannot be held for a reason.
  std::span<const QuantTensor> tensors = {};
  std::span<const QuantTensor> compressed_tensors = {};
  const char* not_in_compressed_tensors = nullptr;
};
std::span<const SchemeRow> scheme_rows();
const SchemeRow& scheme_row(Scheme scheme);

inline constexpr const char* kFloatWord = "FLOAT";
inline constexpr const char* kKvCacheWord = "C8";  // of an int8 KV cache

std::string scheme_name(Scheme scheme);  // "FLOAT", "W8A8", ...
std::optional<Scheme> parse_scheme(const std::string& name);
std::string scheme_names();  // "FLOAT, W8A8, W8A8_DYNAMIC, W8A16 or W8A8_MIX"

inline bool is_quantized(Scheme s) { return scheme_row(s).int8_weights; }
inline bool has_static_input(Scheme s) { return scheme_row(s).static_input; }
inline bool scales_per_token(Scheme s) { return scheme_row(s).per_token; }
// Static for all tokens: deq_scale holds the weights' scales, quant_bias the bias.
inline bool is_static(Scheme s) { return has_static_input(s) && !scales_per_token(s); }
// int8 weights, float activations.
inline bool is_weight_only(Scheme s) {
  return is_quantized(s) && !has_static_input(s) && !scales_per_token(s);
}
// Bytes of one weight of a model whose floats are `model`.
inline size_t weight_bytes(Scheme s, DType model) {
  return is_quantized(s) ? 1 : dtype_size(model);
}

// The type that stands for a model with these linears: the highest of them.
Scheme highest(const std::map<std::string, Scheme>& types);

// Those of k_proj and of v_proj in an int8 KV cache.
std::span<const QuantTensor> kv_cache_tensors();

}  // namespace octet
