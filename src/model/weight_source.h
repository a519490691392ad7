// Where the weights [n, k] of a linear come from: row by row, as whoever packs them asks for them.
#pragma once

#include <cstddef>
#include <cstring>
#include <functional>

namespace octet {

// Writes row `row` as it is stored to out. Called by all workers of a team, each for its own rows.
using WeightSource = std::function<void(size_t row, void* out)>;

// Rows of so many bytes, one after the other, at any byte; they must outlive the source.
inline WeightSource contiguous_rows(const void* w, size_t row_bytes) {
  return [w, row_bytes](size_t row, void* out) {
    std::memcpy(out, static_cast<const char*>(w) + row * row_bytes, row_bytes);
  };
}

}  // namespace octet
