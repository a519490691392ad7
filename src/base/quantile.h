// Quantiles of sorted values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

namespace octet {

// Between neighbours of `sorted` (ascending, at least one), as numpy.percentile does it.
template <typename T>
double quantile(const std::vector<T>& sorted, double share) {
  const double at = share * static_cast<double>(sorted.size() - 1);
  const size_t below = static_cast<size_t>(at);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  const double part = at - static_cast<double>(below);
  return double{sorted[below]} + part * (double{sorted[above]} - double{sorted[below]});
}

}  // namespace octet
