// Ranges and parameters against numbers worked out by hand, and the histogram against the steps of
// docs/quantization.md written out the long way: parts merged one by one, the error of a range
// integrated piece by piece.
#include "src/quant/msmodelslim/observer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/json.h"

namespace octet {
namespace {

constexpr size_t kBins = 2048;
constexpr size_t kParts = 128;

constexpr size_t kTeam = 3;

// A sample of as many tokens, at most five, as its size is a multiple of, and a column besides.
void observe(Observer& o, const std::vector<float>& x) {
  static ThreadTeam team(kTeam);
  size_t m = 5;
  while (x.size() % m != 0) --m;
  const size_t k = x.size() / m, ld = k + 1;
  std::vector<float> rows(m * ld, 1e30f);
  for (size_t r = 0; r < m; ++r) std::copy_n(x.data() + r * k, k, rows.data() + r * ld);
  team.run([&](Worker& w) { o.observe(w, {rows.data(), ld, m}, k); });
}

std::vector<float> uniform(size_t n, float lo, float hi, uint32_t seed) {
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> d(lo, hi);
  std::vector<float> v(n);
  for (float& f : v) f = d(rng);
  v[0] = lo;
  v[1] = hi;
  return v;
}

// The tool's histogram observer, tensor by tensor as it is written for torch: every vector is a
// float32 tensor of it, every double one of Python's numbers.
class LongHistogram {
 public:
  void observe(const std::vector<float>& x) {
    const auto [lo, hi] = std::minmax_element(x.begin(), x.end());
    if (bins_.empty()) {
      min_ = *lo;
      max_ = *hi;
      bins_ = count(x);
      return;
    }
    const float old_min = min_, old_max = max_;
    const float part = (max_ - min_) / static_cast<float>(kBins * kParts);
    min_ = std::min(min_, *lo);
    const float wide = std::max(max_, *hi) - min_;
    const float whole = static_cast<float>(kBins) * part;
    const float d = std::ceil(wide / whole);
    max_ = std::max(max_, *hi) + (d * whole - wide);
    const size_t start = static_cast<size_t>(std::nearbyint((old_min - min_) / part));
    std::vector<float> next = count(x);
    if (min_ == old_min && max_ == old_max) {
      for (size_t i = 0; i < kBins; ++i) next[i] += bins_[i];
    } else {
      const size_t down = static_cast<size_t>(d);
      std::vector<float> parts(kBins * down);
      for (size_t p = 0; p < kBins * kParts; ++p) parts.at(start + p) = bins_[p / kParts];
      std::vector<double> integral(kBins);
      double sum = 0;
      for (size_t p = 0; p < parts.size(); ++p) integral[p / down] = sum += double{parts[p]};
      for (size_t i = 0; i < kBins; ++i) {
        const float shifted = i == 0 ? 0.0f : static_cast<float>(integral[i - 1]);
        next[i] += static_cast<float>((integral[i] - double{shifted}) / kParts);
      }
    }
    bins_ = std::move(next);
  }

  double mass() const {
    double sum = 0;
    for (float b : bins_) sum += double{b};
    return sum;
  }

  Range range() const {
    std::vector<float> c(kBins);
    double sum = 0;
    for (size_t i = 0; i < kBins; ++i) c[i] = static_cast<float>(sum += double{bins_[i]});
    const float total = torch_sum(bins_);
    double alpha = 0, beta = 1, best = INFINITY;
    size_t a = 0, b = kBins - 1;
    while (alpha < beta) {
      size_t l = a, r = b;
      while (l < b && c[l] < static_cast<float>(alpha + 1e-5) * total) ++l;
      while (r > a && c[r] > static_cast<float>(beta - 1e-5) * total) --r;
      const bool left = l - a > b - r;
      (left ? alpha : beta) += left ? 1e-5 : -1e-5;
      const size_t na = left ? l : a, nb = left ? b : r;
      if (na == a && nb == b) continue;
      const double e = double{error(na, nb)};
      if (e > best) break;
      best = e;
      a = na;
      b = nb;
    }
    const float bin = (max_ - min_) / static_cast<float>(kBins);
    return {min_ + bin * static_cast<float>(a), min_ + bin * static_cast<float>(b + 1)};
  }

 private:
  std::vector<float> count(const std::vector<float>& x) const {
    const float lo = std::trunc(min_), hi = std::trunc(max_);
    std::vector<float> bins(kBins);
    for (float v : x) {
      if (v < lo || v > hi) continue;
      const float at = (v - lo) * static_cast<float>(kBins) / (hi - lo);
      bins[std::min(static_cast<size_t>(at), kBins - 1)] += 1;
    }
    return bins;
  }

  // 64 rows of 4 x 8 values: every 16 rows are added up by themselves, then their sums, then the
  // 4, then the 8.
  static float torch_sum(const std::vector<float>& values) {
    float sum = 0;
    for (size_t lane = 0; lane < 8; ++lane) {
      float of_lane = 0;
      for (size_t k = 0; k < 4; ++k) {
        float of_accumulator = 0;
        for (size_t block = 0; block < 4; ++block) {
          float of_block = 0;
          for (size_t row = 16 * block; row < 16 * block + 16; ++row)
            of_block += values[32 * row + 8 * k + lane];
          of_accumulator += of_block;
        }
        of_lane = k == 0 ? of_accumulator : of_lane + of_accumulator;
      }
      sum += of_lane;
    }
    return sum;
  }

  float error(size_t a, size_t b) const {
    const double bin = (static_cast<double>(max_) - static_cast<double>(min_)) / kBins;
    const double level = bin * static_cast<double>(b - a + 1) / 256;
    const float bw = static_cast<float>(bin), dw = static_cast<float>(level),
                half = static_cast<float>(level / 2);
    const auto norm = [](float u, float v, float density) {
      return density * ((v * v * v - u * u * u) / 3);
    };
    std::vector<float> norms(kBins);
    for (size_t i = 0; i < kBins; ++i) {
      const float begin = (static_cast<float>(i) - static_cast<float>(a)) * bw, end = begin + bw;
      const float of_begin = std::clamp(std::floor(begin / dw), 0.0f, 255.0f);
      const float of_end = std::clamp(std::floor(end / dw), 0.0f, 255.0f);
      const float density = bins_[i] / bw;
      norms[i] += norm(begin - (of_begin + 0.5f) * dw, half, density);
      norms[i] += (of_end - of_begin - 1) * norm(-half, half, density);
      norms[i] += norm(-half, end - (of_end * dw + half), density);
    }
    return torch_sum(norms);
  }

  float min_ = 0, max_ = 0;
  std::vector<float> bins_;
};

void expect_same_range(const std::vector<std::vector<float>>& samples) {
  LongHistogram want;
  const auto got = make_histogram_observer(kTeam, true);
  for (const auto& x : samples) {
    want.observe(x);
    observe(*got, x);
    EXPECT_EQ(got->range().min, want.range().min);
    EXPECT_EQ(got->range().max, want.range().max);
  }
}

TEST(MinMaxObserver, TakesTheMeanOfTheExtremes) {
  const auto o = make_minmax_observer(kTeam);
  observe(*o, std::vector<float>{0, -1, 3, 2});
  EXPECT_EQ(o->range().min, -1);
  EXPECT_EQ(o->range().max, 3);
  observe(*o, std::vector<float>{5, -4});
  EXPECT_EQ(o->range().min, -2.5f);
  EXPECT_EQ(o->range().max, 4);
  observe(*o, std::vector<float>{2});           // wholly positive: its minimum counts as it is
  EXPECT_NEAR(o->range().min, -1, 1e-6);        // (-1 - 4 + 2) / 3
  EXPECT_NEAR(o->range().max, 10.0 / 3, 1e-6);  // (3 + 5 + 2) / 3
}

TEST(ExtremesObserver, TakesTheExtremesOfAll) {
  const auto o = make_extremes_observer(kTeam);
  observe(*o, std::vector<float>{1, 3, 2});
  EXPECT_EQ(o->range().min, 1);
  observe(*o, std::vector<float>{5, -4});
  observe(*o, std::vector<float>{0});
  EXPECT_EQ(o->range().min, -4);
  EXPECT_EQ(o->range().max, 5);
}

TEST(SymmetricObserver, GivesNoOffset) {
  for (float top : {0.3f, 1.7f, 63.5f, 1e-3f}) {
    const auto o = make_symmetric(make_extremes_observer(kTeam));
    observe(*o, std::vector<float>{-top, top / 2});
    const QuantParams p = params_of(o->range(), DType::kF32);
    EXPECT_EQ(p.offset, 0);
    EXPECT_NEAR(p.scale, top / 127, 1e-6f * p.scale);
  }
}

TEST(HistogramObserver, UniformDataKeepsItsRange) {
  const auto o = make_histogram_observer(kTeam, true);
  const float bin = 16.0f / kBins;
  for (uint32_t seed : {1, 2}) {
    observe(*o, uniform(100000, -8, 8, seed));
    // The first candidate is always taken; after it a bin more costs 15 squared widths for each of
    // its values, and finer levels gain 1/1024 of 16/3 for each of all: no further step.
    EXPECT_GE(o->range().min, -8);
    EXPECT_LE(o->range().max, 8);
    EXPECT_LE(o->range().min, -8 + 3 * bin);
    EXPECT_GE(o->range().max, 8 - 3 * bin);
  }
}

TEST(HistogramObserver, TrimsFarOutliers) {
  std::vector<float> x = uniform(100000, -4, 4, 3);
  x.push_back(1000);
  const auto o = make_histogram_observer(kTeam, false);  // rounding keeps the tool's search from it
  observe(*o, x);
  EXPECT_LE(o->range().min, -3.5);
  EXPECT_GE(o->range().max, 3.5);
  EXPECT_LE(o->range().max, 5);  // a bin is half a unit
}

// Were the old values lost at the merge, the new one would be all there is.
TEST(HistogramObserver, KeepsOldMassWhenTheRangeWidens) {
  const auto o = make_histogram_observer(kTeam, false);
  observe(*o, uniform(100000, -8, 8, 4));
  observe(*o, std::vector<float>{200});
  EXPECT_LE(o->range().min, -7.5);
  EXPECT_GE(o->range().min, -9);
  EXPECT_GE(o->range().max, 7.5);
  EXPECT_LE(o->range().max, 9);
}

TEST(HistogramObserver, EqualsTheLongWay) {
  std::mt19937 rng(5);
  std::normal_distribution<float> normal(0, 1);
  std::vector<float> bell(20000);
  for (float& v : bell) v = std::clamp(normal(rng) * 3, -9.0f, 9.0f);
  bell[0] = -10, bell[1] = 12;
  std::vector<float> tail = uniform(5000, -2, 2, 6);
  tail[0] = -40, tail[1] = 25;
  std::vector<float> ends = uniform(5000, -16, 15, 9);  // much of it in the outermost bins
  std::fill(ends.begin() + 2, ends.begin() + 1000, -16.0f);
  std::fill(ends.begin() + 1000, ends.begin() + 2000, 15.0f);
  expect_same_range({bell});
  // The range stays, widens at both ends, widens on the left only.
  expect_same_range({bell, bell, uniform(300, -10, 12, 7)});
  expect_same_range({bell, tail, uniform(3000, -64, 3, 8)});
  expect_same_range({ends, tail, bell});
  // Merging loses no mass but by rounding (the edges of these samples are integers, so no value is
  // dropped).
  LongHistogram mass;
  for (const auto& x : {bell, tail, ends}) mass.observe(x);
  EXPECT_NEAR(mass.mass(), 30000, 30000 * 1e-5);
}

// Edges are cut toward zero; values between the cut edge and the true one are not counted.
TEST(HistogramObserver, EqualsTheLongWayWithBrokenEdges) {
  expect_same_range({uniform(5000, -2.75f, 3.6f, 9), uniform(5000, -5.3f, 2.2f, 10)});
}

// What the tool itself (msModelSlim v0 with torch 2, one thread) gave for the four samples; in
// double the last range ends at 35.52.
TEST(HistogramObserver, EqualsTheToolBitForBit) {
  uint32_t state = 99;
  const auto draw = [&state] {
    state = state * 1664525u + 1013904223u;
    return static_cast<int64_t>(state >> 16);
  };
  const auto o = make_histogram_observer(kTeam, true);
  const auto own = make_histogram_observer(kTeam, false);
  std::vector<Range> ranges;
  for (const int64_t scale : {2, 3, 3, 4}) {
    std::vector<float> x;
    for (int i = 0; i < 640; ++i) {
      const int64_t peak = i % 32 == 5 ? 12 : i % 32 == 17 ? 7 : 1;
      int64_t sum = -131072;
      for (int k = 0; k < 4; ++k) sum += draw();
      x.push_back(static_cast<float>(static_cast<double>(sum * scale * peak) / 65536));
    }
    if (ranges.empty()) {
      EXPECT_EQ(x[0], -1.058441162109375f);
      EXPECT_EQ(x[1], -1.27008056640625f);
    }
    observe(*o, x);
    observe(*own, x);
    ranges.push_back(o->range());
  }
  EXPECT_EQ(ranges[2].min, -43.27777f);
  EXPECT_EQ(ranges[2].max, 33.022682f);
  EXPECT_EQ(ranges[3].min, -43.330726623535156f);
  EXPECT_EQ(ranges[3].max, 41.097267150878906f);
  EXPECT_NE(own->range().max, ranges[3].max);  // in double, with true edges
}

// Octet's own mode against numpy (tools/histogram_golden.py), on values that stand clear of bin
// borders: true edges, and constant samples count once others come.
TEST(HistogramObserver, EqualsNumpyWithTrueEdges) {
  const fs::path file =
      fs::path(OCTET_SOURCE_DIR) / "src/quant/msmodelslim/testdata/histogram.json";
  const json golden = parse_json(read_text(file), file.string());
  ASSERT_EQ(golden.size(), 3u);
  for (const auto& [name, samples] : golden.items()) {
    const auto o = make_histogram_observer(kTeam, /*as_msmodelslim=*/false);
    const auto other = make_histogram_observer(kTeam, /*as_msmodelslim=*/true);
    for (const json& sample : samples) {
      SCOPED_TRACE(name);
      std::vector<float> x;
      for (const json& value : sample.at("values"))
        x.insert(x.end(), value[1].get<size_t>(), value[0].get<float>());
      observe(*o, x);
      observe(*other, x);
      const double low = sample.at("range")[0], high = sample.at("range")[1];
      // A bin is a 2048th of more than this; range ends are sums in float.
      EXPECT_NEAR(o->range().min, low, (high - low) / 1e5);
      EXPECT_NEAR(o->range().max, high, (high - low) / 1e5);
    }
    EXPECT_GT(std::fabs(o->range().min - other->range().min) +
                  std::fabs(o->range().max - other->range().max),
              (o->range().max - o->range().min) / 1e3);  // it does matter
  }
}

void expect_usable(const Observer& o, float value) {
  const Range r = o.range();
  ASSERT_TRUE(std::isfinite(r.min) && std::isfinite(r.max));
  EXPECT_LE(r.min, value);
  EXPECT_GE(r.max, value);
  for (DType stored : {DType::kF32, DType::kF16, DType::kBF16}) {
    const QuantParams p = params_of(r, stored);
    EXPECT_TRUE(std::isfinite(p.scale));
    EXPECT_GT(p.scale, 0);
    EXPECT_GE(p.offset, -128);
    EXPECT_LE(p.offset, 127);
  }
}

TEST(Observers, ConstantSamplesGiveUsableParameters) {
  for (float value : {0.0f, 3.0f, -0.37f, 1e-30f})
    for (int kind = 0; kind < 3; ++kind) {
      SCOPED_TRACE(value);
      const auto o =
          kind == 0 ? make_minmax_observer(kTeam) : make_histogram_observer(kTeam, kind == 1);
      for (int sample = 0; sample < 3; ++sample) {
        observe(*o, std::vector<float>(100, value));
        expect_usable(*o, value);
      }
    }
}

// An activation that overflowed, or a range that does.
TEST(Observers, RefuseWhatNoRangeHolds) {
  for (int kind = 0; kind < 4; ++kind) {
    const auto o = kind == 0   ? make_minmax_observer(kTeam)
                   : kind == 1 ? make_extremes_observer(kTeam)
                               : make_histogram_observer(kTeam, kind == 2);
    std::vector<float> x = uniform(1000, -1, 1, 2);
    observe(*o, x);
    for (float extreme : {INFINITY, -INFINITY}) {
      x[7] = extreme;
      EXPECT_THROW(observe(*o, x), Error);
    }
    x[7] = 3e38f;
    x[8] = -3e38f;
    EXPECT_THROW(observe(*o, x), Error);
  }
}

TEST(HistogramObserver, GoesOnAfterAConstantSample) {
  for (float value : {0.0f, 3.0f}) {
    const auto o = make_histogram_observer(kTeam, true);
    observe(*o, std::vector<float>(10, value));
    observe(*o, uniform(100000, -8, 8, 11));
    expect_usable(*o, value);
    EXPECT_NEAR(o->range().min, -8, 0.1);
    EXPECT_NEAR(o->range().max, 8, 0.1);
    observe(*o, std::vector<float>(10, value));
    expect_usable(*o, value);
    EXPECT_NEAR(o->range().max, 8, 0.1);
  }
}

TEST(ParamsOf, FollowsTheFormula) {
  const QuantParams p = params_of({-1, 4}, DType::kF32);
  EXPECT_EQ(p.scale, 5.0f / 255.0f);
  EXPECT_EQ(p.offset, -77);  // 255 / 5 = 51, less 128
}

TEST(ParamsOf, RangesReachZero) {
  const QuantParams below = params_of({-4, -1}, DType::kF32);
  EXPECT_EQ(below.scale, 4.0f / 255.0f);
  EXPECT_EQ(below.offset, 127);  // zero is the top level
  const QuantParams above = params_of({1, 4}, DType::kF32);
  EXPECT_EQ(above.scale, 4.0f / 255.0f);
  EXPECT_EQ(above.offset, -128);
}

TEST(ParamsOf, ZeroRangeTakesTheSmallestScale) {
  for (DType stored : {DType::kF32, DType::kF16, DType::kBF16}) {
    const QuantParams p = params_of({0, 0}, stored);
    EXPECT_EQ(p.scale, 0x1p-23f);  // a float16 (subnormal) and a bfloat16, too
    EXPECT_EQ(p.offset, -128);
  }
}

// 5 / 255 = 1.2549 * 2^-6: with 8 significant bits 161 / 2^13, with 11 bits 1285 / 2^16.
TEST(ParamsOf, ScaleIsRoundedToTheStoredTypeFirst) {
  const Range r{-4.6f, 0.4f};
  EXPECT_EQ(params_of(r, DType::kBF16).scale, 161.0f / 8192);
  EXPECT_EQ(params_of(r, DType::kF16).scale, 1285.0f / 65536);
  EXPECT_EQ(params_of(r, DType::kF32).offset, 107);   // 4.6 * 51 = 234.6 -> 235
  EXPECT_EQ(params_of(r, DType::kBF16).offset, 106);  // 4.6 * 8192 / 161 = 234.06 -> 234
}

// 5.0256 / 255 rounds down to 161 / 2^13 and 5.0256 * 8192 / 161 = 255.7: one more than fits.
TEST(ParamsOf, OffsetIsLimited) {
  const QuantParams p = params_of({-5.0256f, 0}, DType::kBF16);
  EXPECT_EQ(p.scale, 161.0f / 8192);
  EXPECT_EQ(p.offset, 127);
}

}  // namespace
}  // namespace octet
