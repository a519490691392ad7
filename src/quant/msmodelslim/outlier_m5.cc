// m5 (CBQ): only outlier channels are scaled, beyond a bound from the quartile-like spread of the
// channels' extremes, refined by a search.
#include <algorithm>
#include <cmath>

#include "src/base/quantile.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

constexpr float kPower = 0.7f;

// Unbiased; 0 for fewer than two values.
double variance(const float* v, size_t n) {
  if (n < 2) return 0;
  double sum = 0, squares = 0;
  for (size_t i = 0; i < n; ++i) sum += double{v[i]};
  const double mean = sum / static_cast<double>(n);
  for (size_t i = 0; i < n; ++i) squares += (double{v[i]} - mean) * (double{v[i]} - mean);
  return squares / static_cast<double>(n - 1);
}

// The bound beyond which channels are outliers: `v` are the channels' maxima (or minima, when
// `minima`).
float outlier_bound(const std::vector<float>& v, bool minima) {
  std::vector<float> sorted = v;
  std::sort(sorted.begin(), sorted.end());
  const float q20 = static_cast<float>(quantile(sorted, 0.2));
  const float q80 = static_cast<float>(quantile(sorted, 0.8));
  const float spread = 1.5f * (q80 - q20);
  const float bound = minima ? q20 - spread : q80 + spread;
  std::vector<float> beyond;
  for (float x : v)
    if (minima ? x < bound : x > bound) beyond.push_back(x);
  if (beyond.size() < 2) return bound;
  // Where the gap is large and the side towards the other channels is narrow.
  std::sort(beyond.begin(), beyond.end(), std::greater<>());
  double best = -INFINITY;
  float refined = bound;
  for (size_t split = 1; split < beyond.size(); ++split) {
    const double gap = std::fabs(double{beyond[split - 1]} - double{beyond[split]});
    const double inner = minima ? variance(beyond.data(), split)
                                : variance(beyond.data() + split, beyond.size() - split);
    if (gap - inner <= best) continue;
    best = gap - inner;
    refined = minima ? beyond[split - 1] : beyond[split];
  }
  return refined;
}

class M5 final : public OutlierMethod {
 public:
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam&) const override {
    const OutlierStats& stats = target.stats;
    const std::vector<float>&high = stats.highest(), &low = stats.lowest();
    const float upper = outlier_bound(high, false), lower = outlier_bound(low, true);
    float top = -INFINITY, bottom = INFINITY;  // of the channels that are no outliers
    for (size_t i = 0; i < high.size(); ++i) {
      if (high[i] <= upper) top = std::max(top, high[i]);
      if (low[i] >= lower) bottom = std::min(bottom, low[i]);
    }
    std::vector<float> s(high.size());
    for (size_t i = 0; i < s.size(); ++i) {
      const float above = high[i] > upper ? std::pow(high[i] / top, kPower) : 1.0f;
      const float below = low[i] < lower && bottom != 0 ? std::pow(low[i] / bottom, kPower) : 1.0f;
      s[i] = std::max(above, below);
      if (s[i] == 0) s[i] = 1;
    }
    return s;
  }
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m5() { return std::make_unique<M5>(); }

}  // namespace octet
