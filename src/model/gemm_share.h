// How the workers share a linear's GEMM, and its vectors as the kernels take them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "src/base/error.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"

namespace octet {

// The part of a product that one call of a kernel computes.
struct GemmTile {
  size_t panel_begin, panel_end, row_begin, row_end;
};

// A worker's part of the panels and of m rows.
GemmTile gemm_share(const Worker& w, size_t panels, size_t m);

// `values` with zeros up to `size`; empty stays empty.
template <typename T>
Buffer<T> padded(const std::vector<T>& values, size_t size) {
  OCTET_CHECK(values.size() <= size);
  Buffer<T> out(values.empty() ? 0 : size);
  std::copy(values.begin(), values.end(), out.data());
  return out;
}

}  // namespace octet
