#include "src/model/gemm_share.h"

namespace octet {

// Panels for every row, or, when there are fewer than two panels a worker and many rows, rows for
// every panel.
GemmTile gemm_share(const Worker& w, size_t panels, size_t m) {
  if (panels < 2 * w.count() && m >= 16 * w.count()) {
    const auto [begin, end] = w.share(m, 8);
    return {0, panels, begin, end};
  }
  const auto [begin, end] = w.share(panels);
  return {begin, end, 0, m};
}

}  // namespace octet
