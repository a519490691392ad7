// Overflow-proof arithmetic for sizes that come out of files and requests.
#pragma once

#include <cstdint>
#include <span>

#include "src/base/error.h"

namespace octet {

// a * b and a + b, or an Error naming `what` when the result does not fit 64 bits.
inline uint64_t checked_mul(uint64_t a, uint64_t b, const char* what) {
  uint64_t r;
  if (__builtin_mul_overflow(a, b, &r)) throw Error(std::string(what) + " overflows 64 bits");
  return r;
}

inline uint64_t checked_add(uint64_t a, uint64_t b, const char* what) {
  uint64_t r;
  if (__builtin_add_overflow(a, b, &r)) throw Error(std::string(what) + " overflows 64 bits");
  return r;
}

// A number of a checked configuration, which is not negative, as a size.
inline size_t as_size(int64_t v) { return static_cast<size_t>(v); }

// The number of elements of a shape (1 for a scalar).
inline uint64_t checked_product(std::span<const uint64_t> shape, const char* what) {
  uint64_t n = 1;
  for (uint64_t d : shape) n = checked_mul(n, d, what);
  return n;
}

}  // namespace octet
