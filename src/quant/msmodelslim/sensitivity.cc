#include "src/quant/msmodelslim/sensitivity.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "src/base/error.h"

namespace octet {

void Sensitivity::observe(const float* x, size_t ldx, size_t m, size_t k, const float* scale) {
  const auto at = [&](size_t r, size_t i) {
    return scale == nullptr ? x[r * ldx + i] : x[r * ldx + i] / scale[i];
  };
  std::vector<float> hi(k), lo(k);
  for (size_t i = 0; i < k; ++i) hi[i] = lo[i] = at(0, i);
  for (size_t r = 1; r < m; ++r)
    for (size_t i = 0; i < k; ++i) {
      hi[i] = std::max(hi[i], at(r, i));
      lo[i] = std::min(lo[i], at(r, i));
    }
  for (size_t i = 0; i < k; ++i) {
    max_ = any_ ? std::max(max_, hi[i]) : hi[i];
    min_ = any_ ? std::min(min_, lo[i]) : lo[i];
    any_ = true;
  }
  double sum = 0, squares = 0;
  const double count = static_cast<double>(m * k);
  for (size_t r = 0; r < m; ++r)
    for (size_t i = 0; i < k; ++i) sum += at(r, i) - (hi[i] + lo[i]) * shift_;
  const double mean = sum / count;
  for (size_t r = 0; r < m; ++r)
    for (size_t i = 0; i < k; ++i) {
      const double d = at(r, i) - (hi[i] + lo[i]) * shift_ - mean;
      squares += d * d;
    }
  if (count > 1) std_ = std::max(std_, std::sqrt(squares / (count - 1)));
}

double Sensitivity::score() const {
  const double largest = std::max(std::fabs(max_), std::fabs(min_));
  return std_ > 0 ? largest / std_ : 0;  // a constant input is no trouble
}

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
