#include "src/quant/msmodelslim/outlier_stats.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace octet {

OutlierStats::OutlierStats(size_t k, size_t batches, KeepInputs keep, bool deviation)
    : batches_(batches),
      keep_(keep),
      with_deviation_(deviation),
      highest_(k, -std::numeric_limits<float>::infinity()),
      lowest_(k, std::numeric_limits<float>::infinity()),
      shifted_highest_(deviation ? k : 0, -std::numeric_limits<float>::infinity()),
      sum_(k) {}

void OutlierStats::observe(Worker& w, const Rows& x) {
  constexpr size_t kGrain = 16;  // channels: a cache line
  const size_t k = channels(), m = x.m;
  const auto [begin, end] = w.share(k, kGrain);
  for (size_t r = 0; r < m; ++r) {
    const float* row = x.x + r * x.ld;
    for (size_t i = begin; i < end; ++i) {
      highest_[i] = std::max(highest_[i], row[i]);
      lowest_[i] = std::min(lowest_[i], row[i]);
      sum_[i] += double{std::fabs(row[i])};
    }
  }
  if (with_deviation_) w.barrier();  // observe_shifted() reads all channels
  if (w.id() != 0) return;
  if (with_deviation_) observe_shifted(x);
  size_t kept = 0;
  if (keep_ == KeepInputs::kAll || (keep_ == KeepInputs::kFirstBatch && seen_ == 0)) kept = m;
  if (keep_ == KeepInputs::kSpread) kept = std::min(m, (kSpreadRows + batches_ - 1) / batches_);
  for (size_t i = 0; i < kept; ++i) {
    const float* row = x.x + i * m / kept * x.ld;
    inputs_.insert(inputs_.end(), row, row + k);
  }
  ++seen_;
  rows_ += m;
}

void OutlierStats::observe_shifted(const Rows& x) {
  const size_t k = channels(), m = x.m;
  const std::vector<float> s = shift();
  double sum = 0, squares = 0;
  for (size_t r = 0; r < m; ++r)
    for (size_t i = 0; i < k; ++i) {
      const float d = x.x[r * x.ld + i] - s[i];
      shifted_highest_[i] = std::max(shifted_highest_[i], d);
      sum += double{d};
    }
  const double count = static_cast<double>(m * k), mean = sum / count;
  for (size_t r = 0; r < m; ++r)
    for (size_t i = 0; i < k; ++i) {
      const double d = double{x.x[r * x.ld + i] - s[i]} - mean;
      squares += d * d;
    }
  if (count > 1)
    deviation_ = std::max(deviation_, static_cast<float>(std::sqrt(squares / (count - 1))));
}

std::vector<float> OutlierStats::amplitude() const {
  std::vector<float> a(channels());
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = std::max(std::fabs(highest_[i]), std::fabs(lowest_[i]));
  return a;
}

std::vector<float> OutlierStats::mean_amplitude() const {
  std::vector<float> mean(channels());
  for (size_t i = 0; i < mean.size(); ++i)
    mean[i] = static_cast<float>(sum_[i] / static_cast<double>(rows_));
  return mean;
}

std::vector<float> OutlierStats::shift() const {
  std::vector<float> s(channels());
  for (size_t i = 0; i < s.size(); ++i) s[i] = (highest_[i] + lowest_[i]) / 2;
  return s;
}

}  // namespace octet
