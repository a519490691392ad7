#include "src/checkpoint/dtype.h"

#include <array>

namespace octet {
namespace {

struct Entry {
  std::string_view name;
  size_t size;
};

// In the order of DType.
constexpr std::array<Entry, 15> kTypes = {{
    {"BOOL", 1},
    {"U8", 1},
    {"I8", 1},
    {"F8_E4M3", 1},
    {"F8_E5M2", 1},
    {"I16", 2},
    {"U16", 2},
    {"F16", 2},
    {"BF16", 2},
    {"I32", 4},
    {"U32", 4},
    {"F32", 4},
    {"I64", 8},
    {"U64", 8},
    {"F64", 8},
}};

}  // namespace

std::string_view dtype_name(DType type) { return kTypes[static_cast<size_t>(type)].name; }
size_t dtype_size(DType type) { return kTypes[static_cast<size_t>(type)].size; }

std::optional<DType> parse_dtype(std::string_view name) {
  for (size_t i = 0; i < kTypes.size(); ++i)
    if (kTypes[i].name == name) return static_cast<DType>(i);
  return std::nullopt;
}

}  // namespace octet
