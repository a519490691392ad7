// Element types of tensors in safetensors files.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace octet {

enum class DType : uint8_t {
  kBool,
  kU8,
  kI8,
  kF8E4M3,
  kF8E5M2,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kI64,
  kU64,
  kF64,
};

// Name as safetensors spells it ("F32", "BF16", "I8", ...) and size in bytes.
std::string_view dtype_name(DType type);
size_t dtype_size(DType type);
std::optional<DType> parse_dtype(std::string_view name);

inline bool is_float16(DType t) { return t == DType::kF16 || t == DType::kBF16; }
inline bool is_float(DType t) { return is_float16(t) || t == DType::kF32; }

}  // namespace octet
