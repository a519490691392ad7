#include "src/quant/msmodelslim/quantile_score.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace octet {

void QuantileScore::observe(const float* x, size_t ldx, size_t m, size_t k) {
  constexpr size_t kStep = 100;
  std::vector<float> sorted;
  sorted.reserve(m * k);
  for (size_t r = 0; r < m; ++r) sorted.insert(sorted.end(), x + r * ldx, x + r * ldx + k);
  if (sorted.size() < kStep) {
    values_.insert(values_.end(), sorted.begin(), sorted.end());
    return;
  }
  std::sort(sorted.begin(), sorted.end());
  for (size_t i = kStep / 2; i < sorted.size(); i += kStep) values_.push_back(sorted[i]);
}

double QuantileScore::score() const {
  OCTET_CHECK(!values_.empty());
  std::vector<float> v = values_;
  std::sort(v.begin(), v.end());
  const double range = 2 * std::max(std::fabs(double{v.front()}), std::fabs(double{v.back()}));
  if (range == 0) return 0;
  return range / 254 / (double{v[3 * (v.size() / 4)]} - double{v[v.size() / 4]});
}

}  // namespace octet
