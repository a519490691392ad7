// How a recipe fits the static range of a linear's input (layerwise/range_search.h).
#pragma once

#include <optional>

namespace octet {

enum class RangeMethod {
  kMinMax,    // all inputs
  kQuantile,  // all but a share of them on either side
  kSearch     // the one of least loss among those that shrink the sides of [min, max]
};
struct RangeFit {
  RangeMethod method = RangeMethod::kSearch;
  double quantile = 0.9999;  // of kQuantile: the share of inputs within either side
  // The range is made wider by this factor; nothing: by the one of least loss on folds when it is
  // fitted to the other folds.
  std::optional<double> margin = 1.0;
};

}  // namespace octet
