#include "src/quant/msmodelslim/observer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "src/base/error.h"

namespace octet {
namespace {

// The extremes of a sample, looked for by all workers.
class SampleExtremes {
 public:
  explicit SampleExtremes(size_t workers) : parts_(workers) {}
  // SPMD. Found by all; all workers must have it before the next sample. Throws Error where the
  // range is infinite.
  Range find(Worker& w, const Rows& x, size_t k) {
    OCTET_CHECK(x.m * k > 0 && w.count() <= parts_.size());
    const auto [begin, end] = w.share(x.m);
    Range own = kNothing;
    for (size_t r = begin; r < end; ++r) own = widened(own, {x.x + r * x.ld, k});
    parts_[w.id()] = own;
    w.barrier();
    Range all = kNothing;
    for (size_t i = 0; i < w.count(); ++i)
      all = {std::min(all.min, parts_[i].min), std::max(all.max, parts_[i].max)};
    if (!std::isfinite(all.max - all.min))
      throw Error("an activation is too large for float32")
          .expected("finite inputs of all linears")
          .found(fmt::format("{:g} to {:g}", all.min, all.max))
          .remedy(
              "octet generate shows whether the model itself works; else another --anti_method");
    return all;
  }

 private:
  std::vector<Range> parts_;  // by worker
};

class MinMaxObserver final : public Observer {
 public:
  explicit MinMaxObserver(size_t workers) : extremes_(workers) {}
  void observe(Worker& w, const Rows& x, size_t k) override {
    const Range r = extremes_.find(w, x, k);
    if (w.id() != 0) return;
    ++samples_;
    // Running means in float, as the tool computes them: m += (v - m) / t.
    mean_.min += (r.min - mean_.min) / samples_;
    mean_.max += (r.max - mean_.max) / samples_;
  }
  Range range() const override { return mean_; }

 private:
  SampleExtremes extremes_;
  float samples_ = 0;
  Range mean_;
};

class ExtremesObserver final : public Observer {
 public:
  explicit ExtremesObserver(size_t workers) : extremes_(workers) {}
  void observe(Worker& w, const Rows& x, size_t k) override {
    const Range r = extremes_.find(w, x, k);
    if (w.id() == 0) seen_ = {std::min(seen_.min, r.min), std::max(seen_.max, r.max)};
  }
  Range range() const override { return seen_; }

 private:
  SampleExtremes extremes_;
  Range seen_ = kNothing;
};

class SymmetricObserver final : public Observer {
 public:
  explicit SymmetricObserver(std::unique_ptr<Observer> inner) : inner_(std::move(inner)) {}
  void observe(Worker& w, const Rows& x, size_t k) override { inner_->observe(w, x, k); }
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

// Adds as torch.sum adds a row of floats on a CPU: 8 lanes of 4 accumulators each, emptied into a
// second level after 16 additions.
float sum_as_torch(const Bins& bins) {
  constexpr size_t kLanes = 8, kAccumulators = 4, kSteps = 16;
  static_assert(kBins == 4 * kSteps * kAccumulators * kLanes);  // two levels, no rest
  float lanes[kAccumulators][kLanes] = {};
  for (size_t i = 0; i < kBins;) {
    float sums[kAccumulators][kLanes] = {};
    for (size_t step = 0; step < kSteps; ++step)
      for (auto& accumulator : sums)
        for (float& lane : accumulator) lane += bins[i++];
    for (size_t k = 0; k < kAccumulators; ++k)
      for (size_t l = 0; l < kLanes; ++l) lanes[k][l] += sums[k][l];
  }
  float sum = 0;
  for (size_t l = 0; l < kLanes; ++l)
    sum += ((lanes[0][l] + lanes[1][l]) + lanes[2][l]) + lanes[3][l];
  return sum;
}

// `Real`: in what old bins are merged and the range is searched. float is the tool's way, operation
// by operation and sum by sum, with its edges; on equal inputs the ranges are equal, bit for bit.
template <typename Real>
class HistogramObserver final : public Observer {
 public:
  explicit HistogramObserver(size_t workers) : extremes_(workers), counts_(workers) {}

  void observe(Worker& w, const Rows& x, size_t k) override {
    const Range r = extremes_.find(w, x, k);
    // All workers read bins_ and seen_ before the next barrier; worker 0 writes them after it.
    const bool first = bins_.empty(), merges = !first && seen_.min != seen_.max;
    Range wide = first ? r : Range{std::min(r.min, seen_.min), std::max(r.max, seen_.max)};
    size_t d = 0, start = 0;
    if (merges) {
      // The old bins, cut into kUpsample parts, fall on the new ones' edges when the new range is
      // stretched to a whole number of parts.
      const float part = (seen_.max - seen_.min) / static_cast<float>(kBins * kUpsample);
      const float whole = part * static_cast<float>(kBins);
      d = static_cast<size_t>(std::ceil((wide.max - wide.min) / whole));
      wide.max += whole * static_cast<float>(d) - (wide.max - wide.min);
      start = static_cast<size_t>(std::nearbyint((seen_.min - wide.min) / part));
    }
    const Range e = edges(r, wide);
    Counts& counts = counts_[w.id()];
    counts.fill(0);
    const auto [begin, end] = w.share(x.m);
    for (size_t row = begin; row < end; ++row) count(x.x + row * x.ld, k, e, counts);
    w.barrier();
    if (w.id() != 0) return;
    Bins next = counted(w.count());
    if (!merges) {  // nothing to merge but, perhaps, one value
      if (!first && !kAsTool)
        next[bin_of(seen_.min, e)] += std::accumulate(bins_.begin(), bins_.end(), 0.0f);
    } else if (wide.min == seen_.min && wide.max == seen_.max) {
      for (size_t i = 0; i < kBins; ++i) next[i] += bins_[i];
    } else {
      merge(d, start, next);
    }
    bins_ = std::move(next);
    seen_ = wide;
  }

  Range range() const override {
    OCTET_CHECK(!bins_.empty());
    if (seen_.min == seen_.max) return seen_;
    const auto [a, b] = search();
    const float bin = (seen_.max - seen_.min) / static_cast<float>(kBins);
    return {seen_.min + bin * static_cast<float>(a), seen_.min + bin * static_cast<float>(b + 1)};
  }

 private:
  static constexpr bool kAsTool = std::is_same_v<Real, float>;

  using Counts = std::array<uint32_t, kBins + 1>;  // the last: what lies outside

  // The outer edges of the bins into which a sample with the extremes `sample` is counted, for the
  // range r.
  static Range edges(const Range& sample, Range r) {
    if (kAsTool) {
      r = {std::trunc(r.min), std::trunc(r.max)};
      if (r.min == r.max) r = sample;
    }
    if (r.min == r.max) return {r.min - 1, r.max + 1};
    return r;
  }
  static size_t bin_of(float v, Range e) {
    const float at = (v - e.min) * static_cast<float>(kBins) / (e.max - e.min);
    return static_cast<size_t>(std::min(static_cast<float>(kBins - 1), at));
  }
  static void count(const float* x, size_t n, Range e, Counts& counts) {
    constexpr size_t kAtOnce = 256;  // the bins as vectors, then one by one
    std::array<int32_t, kAtOnce> bins;
    for (size_t i = 0; i < n; i += kAtOnce) {
      const size_t some = std::min(kAtOnce, n - i);
      for (size_t j = 0; j < some; ++j) {
        const float v = x[i + j], last = static_cast<float>(kBins - 1);
        const float at = (v - e.min) * static_cast<float>(kBins) / (e.max - e.min);
        const bool inside = v >= e.min && v <= e.max;
        bins[j] = static_cast<int32_t>(inside ? std::min(last, at) : last + 1);  // NaN: the last
      }
      for (size_t j = 0; j < some; ++j) ++counts[static_cast<size_t>(bins[j])];
    }
  }
  // What all workers counted.
  Bins counted(size_t workers) const {
    Bins h(kBins);
    for (size_t i = 0; i < kBins; ++i) {
      uint64_t sum = 0;
      for (size_t worker = 0; worker < workers; ++worker) sum += counts_[worker][i];
      h[i] = static_cast<float>(sum);
    }
    return h;
  }

  // next += the old histogram in the new bins: bin i covers parts [i d, (i + 1) d), the old parts
  // begin at `start`. What is subtracted is a Real: the tool's empty bins take the residue of its
  // rounding, also a negative one.
  void merge(size_t d, size_t start, Bins& next) const {
    size_t p = 0;  // the next old part
    double mass = 0;
    Real before = 0;
    for (size_t i = 0; i < kBins; ++i) {
      for (; p < kBins * kUpsample && start + p < (i + 1) * d; ++p)
        mass += double{bins_[p / kUpsample]};
      next[i] += static_cast<float>((mass - double{before}) / kUpsample);
      before = static_cast<Real>(mass);
    }
  }

  // Squared error of quantizing bins [a, b] with 256 levels, the mass of a bin spread evenly
  // (HistogramObserver of PyTorch; restated in docs/quantization.md).
  Real error(size_t a, size_t b) const {
    const double bin = (double{seen_.max} - double{seen_.min}) / kBins;
    const double step = bin * static_cast<double>(b - a + 1) / 256;
    if (step == 0) return 0;
    const Real width = static_cast<Real>(bin), level = static_cast<Real>(step),
               half = static_cast<Real>(step / 2);
    const auto integral = [](Real from, Real to) {
      return (to * to * to - from * from * from) / 3;
    };
    const auto level_of = [level](Real at) {
      return std::clamp(std::floor(at / level), Real{0}, Real{255});
    };
    const Real inner = integral(-half, half);
    std::vector<Real> of_bin(kBins);
    for (size_t i = 0; i < kBins; ++i) {
      if (bins_[i] == 0) continue;
      const Real begin = (static_cast<Real>(i) - static_cast<Real>(a)) * width;
      const Real end = begin + width;
      const Real first = level_of(begin), last = level_of(end);
      const Real density = bins_[i] / width;
      of_bin[i] = density * integral(begin - (first + Real{0.5}) * level, half);
      of_bin[i] += (last - first - 1) * (density * inner);
      of_bin[i] += density * integral(-half, end - (last * level + half));
    }
    return sum(of_bin);
  }

  static Real sum(const std::vector<Real>& values) {
    if constexpr (kAsTool)
      return sum_as_torch(values);
    else
      return std::accumulate(values.begin(), values.end(), Real{0});
  }

  // The first and the last bin of the range.
  std::pair<size_t, size_t> search() const {
    std::vector<Real> cumulative(kBins);
    double mass = 0;
    for (size_t i = 0; i < kBins; ++i) cumulative[i] = static_cast<Real>(mass += double{bins_[i]});
    const Real total = sum({bins_.begin(), bins_.end()});
    constexpr double kStep = 1e-5;
    double alpha = 0, beta = 1;
    Real best = INFINITY;
    size_t a = 0, b = kBins - 1;
    while (alpha < beta) {
      const double next_alpha = alpha + kStep, next_beta = beta - kStep;
      size_t l = a, r = b;
      while (l < b && cumulative[l] < static_cast<Real>(next_alpha) * total) ++l;
      while (r > a && cumulative[r] > static_cast<Real>(next_beta) * total) --r;
      size_t na = a, nb = b;
      if (l - a > b - r) {
        na = l;
        alpha = next_alpha;
      } else {
        nb = r;
        beta = next_beta;
      }
      if (na == a && nb == b) continue;
      const Real e = error(na, nb);
      if (e > best) break;
      best = e;
      a = na;
      b = nb;
    }
    return {a, b};
  }

  SampleExtremes extremes_;
  std::vector<Counts> counts_;  // by worker, of the sample
  Range seen_;
  Bins bins_;
};

}  // namespace

std::unique_ptr<Observer> make_minmax_observer(size_t workers) {
  return std::make_unique<MinMaxObserver>(workers);
}
std::unique_ptr<Observer> make_extremes_observer(size_t workers) {
  return std::make_unique<ExtremesObserver>(workers);
}
std::unique_ptr<Observer> make_symmetric(std::unique_ptr<Observer> inner) {
  return std::make_unique<SymmetricObserver>(std::move(inner));
}
std::unique_ptr<Observer> make_histogram_observer(size_t workers, bool as_msmodelslim) {
  if (as_msmodelslim) return std::make_unique<HistogramObserver<float>>(workers);
  return std::make_unique<HistogramObserver<double>>(workers);
}

}  // namespace octet
