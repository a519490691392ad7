// How the workers share a linear's GEMM, and its vectors as the kernels take them.
#pragma once

#include <algorithm>
#include <array>
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

// A worker's part of a product: rows of a panel, whole panels, rows of a panel.
class GemmShare {
 public:
  void add(const GemmTile& tile) { tiles_[count_++] = tile; }
  const GemmTile* begin() const { return tiles_.data(); }
  const GemmTile* end() const { return tiles_.data() + count_; }

 private:
  std::array<GemmTile, 3> tiles_ = {};
  size_t count_ = 0;
};

// A worker's part of the panels and of m rows. Panels are cut between rows where whole ones would
// give somebody more than 1.1 times the mean, down to kLeastRows rows.
GemmShare gemm_share(const Worker& w, size_t panels, size_t m);
// The same for worker `id` of `count`.
GemmShare gemm_share(size_t id, size_t count, size_t panels, size_t m);
inline constexpr size_t kLeastRows = 6;  // that stay together: a register tile's

// `values` with zeros up to `size`; empty stays empty.
template <typename T>
Buffer<T> padded(const std::vector<T>& values, size_t size) {
  OCTET_CHECK(values.size() <= size);
  Buffer<T> out(values.empty() ? 0 : size);
  std::copy(values.begin(), values.end(), out.data());
  return out;
}

}  // namespace octet
