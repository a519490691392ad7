#include <gtest/gtest.h>

#include <algorithm>
#include <cfloat>

#include "src/quant/msmodelslim/outlier_testing.h"

namespace octet {
namespace {

using tests::random_weight;

constexpr size_t kRows = 24, kChannels = 16;
using Matrix = std::vector<double>;

// A few channels that are far larger than the others, with a shift.
std::vector<float> spiky_input(std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(kRows * kChannels);
  for (size_t i = 0; i < x.size(); ++i) x[i] = normal(rng) + static_cast<float>(i % kChannels) / 4;
  x[3] = 30;
  x[5 * kChannels + 6] = 55;
  return x;
}

Matrix multiply(const Matrix& x, const FloatWeight& w) {
  const size_t n = w.shape.n, k = w.shape.k, m = x.size() / k;
  Matrix y(m * n);
  for (size_t r = 0; r < m; ++r)
    for (size_t j = 0; j < n; ++j)
      for (size_t i = 0; i < k; ++i) y[r * n + j] += x[r * k + i] * double{w.w[j * k + i]};
  return y;
}

// One slice of queries as wide as the keys after the other.
Matrix attention(const Matrix& x, const std::vector<FloatWeight>& w) {
  const Matrix q = multiply(x, w[0]), k = multiply(x, w[1]), v = multiply(x, w[2]);
  const size_t dq = w[0].shape.n, dk = w[1].shape.n;
  Matrix y(kRows * dq);
  for (size_t first = 0; first < dq; first += dk)
    for (size_t r = 0; r < kRows; ++r) {
      Matrix p(kRows);
      double sum = 0;
      for (size_t t = 0; t < kRows; ++t) {
        double score = 0;
        for (size_t i = 0; i < dk; ++i) score += q[r * dq + first + i] * k[t * dk + i];
        sum += p[t] = std::exp(score / std::sqrt(static_cast<double>(dk)));
      }
      for (size_t t = 0; t < kRows; ++t)
        for (size_t i = 0; i < dk; ++i) y[r * dq + first + i] += p[t] / sum * v[t * dk + i];
    }
  return y;
}

Matrix output(const Matrix& x, const std::vector<FloatWeight>& w) {
  return w.size() == 3 ? attention(x, w) : multiply(x, w[0]);
}

// Statistics of the one batch in double, and the losses of scales.
class Search {
 public:
  Search(std::vector<float> x, const std::vector<FloatWeight>& weights)
      : x_(x.begin(), x.end()),
        weights_(weights),
        high_(kChannels, -INFINITY),
        low_(kChannels, INFINITY),
        w_(kChannels, 1e-5),
        shift_(kChannels) {
    for (size_t i = 0; i < x_.size(); ++i) {
      high_[i % kChannels] = std::fmax(high_[i % kChannels], x_[i]);
      low_[i % kChannels] = std::fmin(low_[i % kChannels], x_[i]);
    }
    for (const FloatWeight& f : weights)
      for (size_t i = 0; i < f.w.size(); ++i)
        w_[i % kChannels] = std::fmax(w_[i % kChannels], std::fabs(f.w[i]));
    for (size_t i = 0; i < kChannels; ++i) shift_[i] = (high_[i] + low_[i]) / 2;
    double sum = 0, squares = 0;
    for (size_t i = 0; i < x_.size(); ++i) sum += x_[i] - shift_[i % kChannels];
    const double mean = sum / static_cast<double>(x_.size());
    for (size_t i = 0; i < x_.size(); ++i)
      squares += std::pow(x_[i] - shift_[i % kChannels] - mean, 2);
    deviation_ = std::sqrt(squares / static_cast<double>(x_.size() - 1));
    for (size_t i = 0; i < kChannels; ++i) top_ = std::fmax(top_, high_[i] - shift_[i]);
    EXPECT_LT(3 * deviation_, top_);
    want_ = output(x_, weights_);
  }

  std::vector<double> candidate(int step) const {
    const double t = (top_ - deviation_) * step / 99 + deviation_;
    std::vector<double> s(kChannels);
    for (size_t i = 0; i < kChannels; ++i) {
      const double above = std::fmax(1, (high_[i] - shift_[i]) / t);
      s[i] = above <= 1 ? 1 : std::fmax(1e-5, std::sqrt(above * t) / std::sqrt(w_[i]));
    }
    return s;
  }

  double loss(const std::vector<double>& s) const {
    Matrix z(x_.size());
    for (size_t i = 0; i < x_.size(); ++i)
      z[i] = (x_[i] - shift_[i % kChannels]) / s[i % kChannels];
    const double min = std::fmin(0, *std::min_element(z.begin(), z.end()));
    const double max = std::fmax(0, *std::max_element(z.begin(), z.end()));
    const double scale = (max - min) / 255, offset = std::nearbyint(-min / scale) - 128;
    for (size_t i = 0; i < z.size(); ++i) {
      const double q = std::fmin(127, std::fmax(-128, std::nearbyint(z[i] / scale + offset)));
      z[i] = (q - offset) * scale * s[i % kChannels] + shift_[i % kChannels];
    }
    const Matrix got = output(z, weights_);
    double sum = 0;
    for (size_t i = 0; i < got.size(); ++i) sum += std::pow(got[i] - want_[i], 2);
    return sum / static_cast<double>(got.size());
  }

 private:
  Matrix x_, want_;
  const std::vector<FloatWeight>& weights_;
  std::vector<double> high_, low_, w_, shift_;
  double deviation_ = 0, top_ = 0;
};

// Neighbouring candidates differ by less than float32 can tell, so what is compared is the loss;
// and the scale must be one of the candidates.
void expect_search(const std::vector<size_t>& rows) {
  std::mt19937 rng(7);
  const std::vector<float> x = spiky_input(rng);
  std::vector<FloatWeight> weights;
  for (size_t n : rows) {
    weights.push_back(random_weight(n, kChannels, rng));
    for (float& v : weights.back().w) v *= 0.2f;  // so that softmax is not all or nothing
  }
  OutlierStats stats(kChannels, 1, KeepInputs::kFirstBatch, true);
  tests::show(stats, {x.data(), kChannels, kRows});
  const Search search(x, weights);
  double least = INFINITY, most = 0;
  for (int step = 0; step < 100; ++step) {
    least = std::fmin(least, search.loss(search.candidate(step)));
    most = std::fmax(most, search.loss(search.candidate(step)));
  }
  ASSERT_GT(most, 1.5 * least);
  ThreadTeam team(2);
  SmoothTarget target{stats, {}};
  for (const FloatWeight& w : weights) target.weights.push_back(&w);
  const std::vector<float> s = make_m2()->scale(target, team);
  ASSERT_EQ(s.size(), kChannels);
  EXPECT_LE(search.loss({s.begin(), s.end()}), 1.001 * least);
  double nearest = INFINITY;
  for (int step = 0; step < 100; ++step) {
    const std::vector<double> candidate = search.candidate(step);
    double farthest = 0;
    for (size_t i = 0; i < kChannels; ++i)
      farthest = std::fmax(farthest, std::fabs(s[i] / candidate[i] - 1));
    nearest = std::fmin(nearest, farthest);
  }
  EXPECT_LT(nearest, 32 * FLT_EPSILON);
}

TEST(ScaleM2, SearchesTheAttention) { expect_search({8, 4, 4}); }

TEST(ScaleM2, SearchesTheFirstLinearOfOthers) { expect_search({6, 5}); }

TEST(ScaleM2, IsM1WithoutOutliers) {
  OutlierStats stats(2, 1, KeepInputs::kFirstBatch, true);
  const std::vector<float> x = {1, 4, -1, -4};
  tests::show(stats, {x.data(), 2, 2});
  const FloatWeight w = tests::weight(1, 2, {4, 1});
  ThreadTeam team(1);
  EXPECT_EQ(make_m2()->scale({stats, {&w}}, team), (std::vector<float>{0.5f, 2}));
}

}  // namespace
}  // namespace octet
