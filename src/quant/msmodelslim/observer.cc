#include "src/quant/msmodelslim/observer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "src/base/error.h"

namespace octet {
namespace {

Range extremes(std::span<const float> x) {
  OCTET_CHECK(!x.empty());
  Range r{x[0], x[0]};
  for (float v : x) {
    r.min = std::min(r.min, v);
    r.max = std::max(r.max, v);
  }
  return r;
}

class MinMaxObserver final : public Observer {
 public:
  void observe(std::span<const float> x) override {
    const Range r = extremes(x);
    ++samples_;
    // Running means in float, as the tool computes them: m += (v - m) / t.
    mean_.min += (r.min - mean_.min) / samples_;
    mean_.max += (r.max - mean_.max) / samples_;
  }
  Range range() const override { return mean_; }

 private:
  float samples_ = 0;
  Range mean_;
};

class ExtremesObserver final : public Observer {
 public:
  void observe(std::span<const float> x) override {
    const Range r = extremes(x);
    seen_ = first_ ? r : Range{std::min(seen_.min, r.min), std::max(seen_.max, r.max)};
    first_ = false;
  }
  Range range() const override { return seen_; }

 private:
  bool first_ = true;
  Range seen_;
};

class SymmetricObserver final : public Observer {
 public:
  explicit SymmetricObserver(std::unique_ptr<Observer> inner) : inner_(std::move(inner)) {}
  void observe(std::span<const float> x) override { inner_->observe(x); }
  Range range() const override {
    const Range r = inner_->range();
    const float top = std::max(std::fabs(r.min), std::fabs(r.max));
    return {-top / 127 * 128, top};  // 255 steps of top / 127, 128 of them below zero
  }

 private:
  std::unique_ptr<Observer> inner_;
};

constexpr size_t kBins = 2048;
constexpr size_t kUpsample = 128;  // of an old histogram before it is merged into a wider one
using Bins = std::vector<float>;   // [kBins]

class HistogramObserver final : public Observer {
 public:
  explicit HistogramObserver(bool as_msmodelslim) : as_msmodelslim_(as_msmodelslim) {}

  void observe(std::span<const float> x) override {
    const Range r = extremes(x);
    const bool first = bins_.empty();
    Range wide = first ? r : Range{std::min(r.min, seen_.min), std::max(r.max, seen_.max)};
    if (first || seen_.min == seen_.max) {  // nothing to merge but, perhaps, one value
      const float constant = seen_.min;
      const float mass = std::accumulate(bins_.begin(), bins_.end(), 0.0f);
      seen_ = wide;
      bins_ = histogram(x, wide);
      if (!first && !as_msmodelslim_) bins_[bin_of(constant, edges(x, wide))] += mass;
      return;
    }
    // The old bins, cut into kUpsample parts, fall on the new ones' edges when the new range is
    // stretched to a whole number of parts.
    const float part = (seen_.max - seen_.min) / static_cast<float>(kBins * kUpsample);
    const float whole = part * static_cast<float>(kBins);
    const size_t d = static_cast<size_t>(std::ceil((wide.max - wide.min) / whole));
    wide.max += whole * static_cast<float>(d) - (wide.max - wide.min);
    const size_t start = static_cast<size_t>(std::nearbyint((seen_.min - wide.min) / part));
    Bins next = histogram(x, wide);
    if (wide.min == seen_.min && wide.max == seen_.max)
      for (size_t i = 0; i < kBins; ++i) next[i] += bins_[i];
    else
      merge(d, start, next);
    bins_ = std::move(next);
    seen_ = wide;
  }

  Range range() const override { return search(); }

 private:
  // The outer edges of the bins into which x is counted, for the range r.
  Range edges(std::span<const float> x, Range r) const {
    if (as_msmodelslim_) {
      r = {std::trunc(r.min), std::trunc(r.max)};
      if (r.min == r.max) r = extremes(x);
    }
    if (r.min == r.max) return {r.min - 1, r.max + 1};
    return r;
  }
  static size_t bin_of(float v, Range e) {
    const float at = (v - e.min) * static_cast<float>(kBins) / (e.max - e.min);
    return std::min(static_cast<size_t>(at), kBins - 1);
  }
  Bins histogram(std::span<const float> x, Range r) const {
    const Range e = edges(x, r);
    Bins h(kBins, 0.0f);
    for (float v : x)
      if (v >= e.min && v <= e.max) h[bin_of(v, e)] += 1;
    return h;
  }

  // next += the old histogram in the new bins: bin i covers parts [i d, (i + 1) d), the old parts
  // begin at `start`.
  void merge(size_t d, size_t start, Bins& next) const {
    std::vector<double> cumulative(kBins + 1, 0.0);  // of the old parts, at old bin edges
    for (size_t i = 0; i < kBins; ++i)
      cumulative[i + 1] = cumulative[i] + static_cast<double>(bins_[i]) * kUpsample;
    const auto mass_below = [&](size_t part) {  // of all parts before `part`, new numbering
      if (part <= start) return 0.0;
      const size_t p = std::min(part - start, kBins * kUpsample);
      const size_t bin = p / kUpsample;
      const double rest =
          bin < kBins ? static_cast<double>(bins_[bin]) * static_cast<double>(p % kUpsample) : 0.0;
      return cumulative[bin] + rest;
    };
    double before = 0;
    for (size_t i = 0; i < kBins; ++i) {
      const double mass = mass_below((i + 1) * d);
      next[i] += static_cast<float>((mass - before) / kUpsample);
      before = mass;
    }
  }

  // Squared error of quantizing bins [a, b] with 256 levels, the mass of a bin spread evenly
  // (HistogramObserver of PyTorch; restated in docs/quantization.md).
  double error(size_t a, size_t b, double width) const {
    const double level = width * static_cast<double>(b - a + 1) / 256;
    if (level == 0) return 0;
    const auto integral = [](double from, double to) {
      return (to * to * to - from * from * from) / 3;
    };
    double sum = 0;
    for (size_t i = 0; i < kBins; ++i) {
      if (bins_[i] == 0) continue;
      const double begin = (static_cast<double>(i) - static_cast<double>(a)) * width;
      const double end = begin + width;
      const double first = std::clamp(std::floor(begin / level), 0.0, 255.0);
      const double last = std::clamp(std::floor(end / level), 0.0, 255.0);
      const double density = static_cast<double>(bins_[i]) / width;
      sum += density * (integral(begin - (first + 0.5) * level, level / 2) +
                        (last - first - 1) * integral(-level / 2, level / 2) +
                        integral(-level / 2, end - (last * level + level / 2)));
    }
    return sum;
  }

  Range search() const {
    OCTET_CHECK(!bins_.empty());
    if (seen_.min == seen_.max) return seen_;
    const double width = static_cast<double>(seen_.max - seen_.min) / kBins;
    std::array<double, kBins> cumulative;
    double total = 0;
    for (size_t i = 0; i < kBins; ++i) cumulative[i] = total += static_cast<double>(bins_[i]);
    constexpr double kStep = 1e-5;
    double alpha = 0, beta = 1, best = INFINITY;
    size_t a = 0, b = kBins - 1;
    while (alpha < beta) {
      const double next_alpha = alpha + kStep, next_beta = beta - kStep;
      size_t l = a, r = b;
      while (l < b && cumulative[l] < next_alpha * total) ++l;
      while (r > a && cumulative[r] > next_beta * total) --r;
      size_t na = a, nb = b;
      if (l - a > b - r) {
        na = l;
        alpha = next_alpha;
      } else {
        nb = r;
        beta = next_beta;
      }
      if (na == a && nb == b) continue;
      const double e = error(na, nb, width);
      if (e > best) break;
      best = e;
      a = na;
      b = nb;
    }
    const float bin = (seen_.max - seen_.min) / static_cast<float>(kBins);
    return {seen_.min + bin * static_cast<float>(a), seen_.min + bin * static_cast<float>(b + 1)};
  }

  bool as_msmodelslim_;
  Range seen_;
  Bins bins_;
};

}  // namespace

std::unique_ptr<Observer> make_minmax_observer() { return std::make_unique<MinMaxObserver>(); }
std::unique_ptr<Observer> make_extremes_observer() { return std::make_unique<ExtremesObserver>(); }
std::unique_ptr<Observer> make_symmetric(std::unique_ptr<Observer> inner) {
  return std::make_unique<SymmetricObserver>(std::move(inner));
}
std::unique_ptr<Observer> make_histogram_observer(bool as_msmodelslim) {
  return std::make_unique<HistogramObserver>(as_msmodelslim);
}

}  // namespace octet
