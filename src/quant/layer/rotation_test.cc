#include "src/quant/layer/rotation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace octet {
namespace {

// R itself: what apply() makes of the unit vectors, row by row.
std::vector<float> matrix_of(const Rotation& r) {
  const size_t n = r.size();
  std::vector<float> m(n * n, 0.0f);
  for (size_t i = 0; i < n; ++i) {
    m[i * n + i] = 1;
    r.apply(m.data() + i * n);
  }
  return m;
}

class RotationOf : public ::testing::TestWithParam<size_t> {};

TEST_P(RotationOf, IsOrthogonal) {
  const size_t n = GetParam();
  const std::vector<float> m = matrix_of(Rotation(n, 7));
  for (size_t i = 0; i < n; ++i)
    for (size_t j = 0; j < n; ++j) {
      double dot = 0;
      for (size_t c = 0; c < n; ++c) dot += double{m[i * n + c]} * m[j * n + c];
      EXPECT_NEAR(dot, i == j ? 1 : 0, 1e-5) << i << " " << j;
    }
}

TEST_P(RotationOf, SpreadsOneChannelOverAll) {
  const size_t n = GetParam();
  // Hadamard's part: every entry is at most 1 / sqrt(the power of two in n).
  const float most = 1 / std::sqrt(static_cast<float>(n & -n));
  for (float v : matrix_of(Rotation(n, 7))) EXPECT_LE(std::fabs(v), most + 1e-6f);
}

// 1: nothing to rotate; 64: Hadamard only; 7: odd only; 576 = 9 * 64; 96 = 3 * 32.
INSTANTIATE_TEST_SUITE_P(Sizes, RotationOf, ::testing::Values(1, 2, 7, 64, 96, 576));

TEST(Rotation, FollowsItsSeed) {
  EXPECT_EQ(matrix_of(Rotation(96, 1)), matrix_of(Rotation(96, 1)));
  EXPECT_NE(matrix_of(Rotation(96, 1)), matrix_of(Rotation(96, 2)));
}

TEST(Rotation, RowsAndColumnsAreTheMatrixProducts) {
  const size_t n = 24, k = 37;
  ThreadTeam team(2);
  const Rotation r(n, 3);
  const std::vector<float> m = matrix_of(r);
  std::vector<float> w(n * k), v(k * n);
  for (size_t i = 0; i < w.size(); ++i) w[i] = std::sin(static_cast<float>(i));
  for (size_t i = 0; i < v.size(); ++i) v[i] = std::cos(static_cast<float>(i));
  std::vector<float> columns = w, rows = v;
  r.apply_columns(columns.data(), k, team);
  r.apply_rows(rows.data(), k, team);
  for (size_t i = 0; i < n; ++i)
    for (size_t c = 0; c < k; ++c) {
      double column = 0, row = 0;
      for (size_t j = 0; j < n; ++j) {
        column += double{m[j * n + i]} * w[j * k + c];  // R^T W
        row += double{v[c * n + j]} * m[j * n + i];     // V R
      }
      EXPECT_NEAR(columns[i * k + c], column, 1e-5);
      EXPECT_NEAR(rows[c * n + i], row, 1e-5);
    }
}

}  // namespace
}  // namespace octet
