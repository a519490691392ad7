// The kernels of screening, like kernels_test.cc: against plain arithmetic, and codes bit for bit.
#include <cstring>

#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

using ScreenKernelTest = KernelTest;
INSTANTIATE_TEST_SUITE_P(Sets, ScreenKernelTest, testing::ValuesIn(tables()), set_name);

// (x H)_j = sum_i x_i (-1)^(bits that i and j share) / sqrt(n), of which log2 n sums and the factor
// are rounded. All sets add in the same order.
TEST_P(ScreenKernelTest, HadamardIsSylvestersMatrix) {
  for (size_t n : {1, 2, 4, 8, 16, 32, 128, 1024}) {
    const std::vector<float> x = random(n, -3, 3);
    std::vector<float> y = x, same = x;
    GetParam()->hadamard(y.data(), n);
    ref::table().hadamard(same.data(), n);
    EXPECT_EQ(0, std::memcmp(y.data(), same.data(), n * sizeof(float))) << n;
    double norm = 0;
    for (float v : x) norm += double{v} * v;
    const double bound = (std::log2(static_cast<double>(n)) + 3) * kU * std::sqrt(norm);
    for (size_t j = 0; j < n; ++j) {
      double sum = 0;
      for (size_t i = 0; i < n; ++i)
        sum += (__builtin_popcountll(i & j) % 2 == 0 ? 1.0 : -1.0) * x[i];
      ASSERT_NEAR(y[j], sum / std::sqrt(static_cast<double>(n)), 1.01 * bound) << n << " " << j;
    }
  }
}

TEST_P(ScreenKernelTest, CodesOfARow) {
  for (size_t k : {1, 7, 8, 16, 33, 576}) {
    for (float span : {3.0f, 1e-38f, 1e30f}) {
      std::vector<float> x = random(k, -span, span);
      x[k / 2] = 1.5f * span;
      std::vector<int8_t> q(k, 99);
      const RowCodes r = GetParam()->int8_codes(x.data(), k, q.data());
      EXPECT_EQ(r.scale, 1.5f * span / 127.0f);
      double squares = 0, errors = 0;
      for (size_t i = 0; i < k; ++i) {
        ASSERT_EQ(q[i], std::nearbyint(x[i] / r.scale));
        squares += double{x[i]} * x[i];
        const double error = x[i] - double{r.scale} * q[i];
        errors += error * error;
      }
      if (span != 3.0f) continue;  // squares that a float does not hold
      // k squares and sums, and that x - scale q is rounded.
      const double rounding = 1.01 * static_cast<double>(k + 3) * kU;
      EXPECT_NEAR(r.norm, std::sqrt(squares), rounding * std::sqrt(squares));
      EXPECT_NEAR(r.error, std::sqrt(errors), rounding * std::sqrt(errors) + kU * r.error);
    }
  }
}

TEST_P(ScreenKernelTest, CodesOfZerosAndOfWhatIsNotFinite) {
  std::vector<int8_t> q(20, 99);
  const std::vector<float> zeros(20);
  const RowCodes none = GetParam()->int8_codes(zeros.data(), 20, q.data());
  EXPECT_EQ(none.scale, 1);
  EXPECT_EQ(none.norm, 0);
  EXPECT_EQ(none.error, 0);
  EXPECT_EQ(q, std::vector<int8_t>(20));
  for (float bad : {NAN, INFINITY, -INFINITY}) {
    std::vector<float> x = random(20);
    x[11] = bad;
    EXPECT_FALSE(std::isfinite(GetParam()->int8_codes(x.data(), 20, q.data()).norm)) << bad;
  }
}

TEST_P(ScreenKernelTest, AddsBounds) {
  for (size_t n : {1, 5, 16, 37}) {
    const std::vector<float> a = random(n), b = random(n), y0 = random(n);
    std::vector<float> y = y0;
    GetParam()->add_bounds(y.data(), a.data(), b.data(), 2.5f, 0.125f, n);
    for (size_t i = 0; i < n; ++i) ASSERT_EQ(y[i], y0[i] + std::fma(2.5f, a[i], 0.125f * b[i]));
  }
}

TEST_P(ScreenKernelTest, MaximaOfBlocks) {
  for (size_t n : {1, 63, 64, 65, 200, 1000}) {
    std::vector<float> x = random(n, -9, -1);
    if (n > 70) x[70] = -INFINITY;
    std::vector<float> maxima((n + kMaximumBlock - 1) / kMaximumBlock + 1, 77.0f);
    GetParam()->block_maxima(x.data(), n, maxima.data());
    for (size_t b = 0; b + 1 < maxima.size(); ++b) {
      float want = -INFINITY;
      for (size_t i = b * kMaximumBlock; i < std::min(n, (b + 1) * kMaximumBlock); ++i)
        want = std::max(want, x[i]);
      ASSERT_EQ(maxima[b], want) << n << " " << b;
    }
    EXPECT_EQ(maxima.back(), 77.0f);
    const std::vector<float> masked(n, -INFINITY);
    GetParam()->block_maxima(masked.data(), n, maxima.data());
    EXPECT_EQ(maxima[0], -INFINITY);
  }
}

TEST_P(ScreenKernelTest, RowsOfPackedWeights) {
  const KernelTable& t = *GetParam();
  for (FloatType type : kTypes) {
    const size_t n = 100, k = 37, panels = float_panels(t, n);
    const StoredWeights w(random(n * k, -span_of(type), span_of(type)), type);
    std::vector<char> packed(panels * float_panel_bytes(t, type, k), '\xff');
    std::vector<float> row(k);
    t.float_pack(w.data(), type, n, k, 0, panels, packed.data());
    for (size_t j = 0; j < n; ++j) {
      t.float_row(packed.data(), type, k, j, row.data());
      for (size_t i = 0; i < k; ++i) ASSERT_EQ(row[i], w.values[j * k + i]) << j << " " << i;
    }
  }
}

}  // namespace
}  // namespace octet::kernels
