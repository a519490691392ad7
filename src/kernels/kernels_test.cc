// Every instruction set that this machine can run, ref included, against plain arithmetic written
// in the tests. Integers (and the floats computed from them by one multiplication) must be equal
// bit for bit. Float results are compared with double: u = eps / 2 is the rounding of one operation
// and a sum of n terms in any order is within n u of the sum of their amounts.
#include <array>
#include <cstring>

#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

INSTANTIATE_TEST_SUITE_P(Sets, KernelTest, testing::ValuesIn(tables()), set_name);

TEST_P(KernelTest, FloatGemmMatchesDoubleSums) {
  const KernelTable& t = *GetParam();
  for (FloatType type : kTypes)
    for (auto [m, n, k] : {std::array<size_t, 3>{1, 1, 1},
                           {1, 100, 77},
                           {9, 49, 130},
                           {13, 97, 64},
                           {2, 48, 33},
                           {17, 820, 40},
                           {3, 20, 95},
                           {70, 50, 1100}}) {
      const std::vector<float> a = random(m * k), b0 = random(n);
      const StoredWeights w(random(n * k, -span_of(type), span_of(type)), type);
      const size_t panels = float_panels(t, n);
      std::vector<char> packed(panels * float_panel_bytes(t, type, k),
                               '\xff');  // NaN where nobody writes
      std::vector<float> bias(panels * t.float_panel);
      std::copy(b0.begin(), b0.end(), bias.begin());
      t.float_pack(w.data(), type, n, k, 0, panels, packed.data());
      std::vector<float> y(m * n, 2.0f);
      t.float_gemm(
          {a.data(), k, m, packed.data(), type, k, n, 0, panels, bias.data(), y.data(), n, true});
      for (size_t r = 0; r < m; ++r)
        for (size_t j = 0; j < n; ++j) {
          double sum = bias[j], magnitude = std::fabs(sum) + 2;
          for (size_t i = 0; i < k; ++i) {
            const double p = double{a[r * k + i]} * w.values[j * k + i];
            sum += p;
            magnitude += std::fabs(p);
          }
          // Fused products, the bias and the old value: k + 2 roundings.
          ASSERT_NEAR(y[r * n + j], 2 + sum, 1.01 * static_cast<double>(k + 2) * kU * magnitude);
        }
    }
}

// A tensor of a file may lie at any byte.
TEST_P(KernelTest, PacksWeightsThatAreNotAligned) {
  const KernelTable& t = *GetParam();
  for (FloatType type : kTypes) {
    const size_t n = 20, k = 9, panels = float_panels(t, n), bytes = n * k * float_type_size(type);
    const StoredWeights w(random(n * k, -span_of(type), span_of(type)), type);
    std::vector<char> shifted(bytes + 1);
    std::memcpy(shifted.data() + 1, w.data(), bytes);
    std::vector<char> packed(panels * float_panel_bytes(t, type, k), '\xff');
    std::vector<char> same(packed.size());
    t.float_pack(w.data(), type, n, k, 0, panels, packed.data());
    t.float_pack(shifted.data() + 1, type, n, k, 0, panels, same.data());
    EXPECT_EQ(0, std::memcmp(packed.data(), same.data(), packed.size()));
  }
}

// int8 weights with the scale and the offset of each output.
TEST_P(KernelTest, ScaledFloatGemmMatchesDoubleSums) {
  const KernelTable& t = *GetParam();
  for (bool with_offset : {false, true})
    for (auto [m, n, k] : {std::array<size_t, 3>{1, 1, 1},
                           {1, 100, 77},
                           {9, 49, 130},
                           {13, 97, 64},
                           {2, 48, 1033}}) {
      const std::vector<float> a = random(m * k);
      const StoredWeights w(random(n * k, -140, 140), FloatType::kI8);
      const size_t panels = float_panels(t, n), size = panels * t.float_panel;
      const std::vector<float> scale = random(size, 0.001f, 0.02f), bias = random(size);
      std::vector<float> offset = random(size, -128, 127);
      for (float& v : offset) v = std::nearbyint(v);
      std::vector<int8_t> packed(size * k);
      t.float_pack(w.data(), FloatType::kI8, n, k, 0, panels, packed.data());
      std::vector<float> y(m * n, 2.0f);
      t.float_gemm({a.data(), k, m, packed.data(), FloatType::kI8, k, n, 0, panels, bias.data(),
                    y.data(), n, true, scale.data(), with_offset ? offset.data() : nullptr});
      for (size_t r = 0; r < m; ++r)
        for (size_t j = 0; j < n; ++j) {
          double sum = 0, magnitude = 0;
          for (size_t i = 0; i < k; ++i) {
            const double o = with_offset ? offset[j] : 0;  // whole, so that w - o is exact
            const double p = double{a[r * k + i]} * (w.values[j * k + i] - o) * scale[j];
            sum += p;
            magnitude += std::fabs(p);
          }
          // Fused products, the scale, the bias and the old value: k + 3 roundings.
          ASSERT_NEAR(
              y[r * n + j], 2 + sum + bias[j],
              1.01 * static_cast<double>(k + 3) * kU * (magnitude + std::fabs(bias[j]) + 2));
        }
    }
}

// A row's result does not depend on the rows that run beside it, nor on how many there are.
TEST_P(KernelTest, RowsAreIndependentOfTheBatch) {
  const KernelTable& t = *GetParam();
  const size_t m = 37, more = 70, n = 70, k = 1119, panels = float_panels(t, n);
  for (FloatType type : kTypes) {
    const std::vector<float> a = random(more * k);
    const StoredWeights w(random(n * k, -span_of(type), span_of(type)), type);
    std::vector<char> packed(panels * float_panel_bytes(t, type, k),
                             '\xff');  // NaN where nobody writes
    std::vector<float> all(more * n), few(m * n);
    t.float_pack(w.data(), type, n, k, 0, panels, packed.data());
    const auto run = [&](size_t first, size_t rows, float* y) {
      t.float_gemm({a.data() + first * k, k, rows, packed.data(), type, k, n, 0, panels, nullptr, y,
                    n, false});
    };
    run(0, more, all.data());
    for (size_t rows = 1; rows <= m; ++rows)
      for (size_t first = 0; first + rows <= m; first += rows) {
        run(first, rows, few.data());
        EXPECT_EQ(0, std::memcmp(few.data(), all.data() + first * n, rows * n * sizeof(float)));
      }
  }
}

TEST_P(KernelTest, RmsNormMatchesDouble) {
  const KernelTable& t = *GetParam();
  for (size_t n : {1, 2, 6, 16, 30, 64, 97, 576})
    for (bool with_bias : {false, true}) {
      const std::vector<float> x = random(n, -3, 3), w = random(n), b = random(n);
      const float eps = 1e-5f;
      std::vector<float> y(n);
      t.rms_norm(x.data(), w.data(), with_bias ? b.data() : nullptr, n, eps, y.data());
      double squares = 0;
      for (float v : x) squares += double{v} * v;
      const double r = 1 / std::sqrt(squares / static_cast<double>(n) + eps);
      for (size_t i = 0; i < n; ++i) {
        const double product = x[i] * r * w[i], want = product + (with_bias ? b[i] : 0.0f);
        // The mean plus eps is within (n + 2) u, its root within half of that; root, quotient and
        // two products add 4 u, the bias one of the result.
        const double bound =
            (static_cast<double>(n + 2) / 2 + 4) * kU * std::fabs(product) + kU * std::fabs(want);
        ASSERT_NEAR(y[i], want, 1.01 * bound) << n << " " << i;
      }
    }
}

TEST_P(KernelTest, RopeMatchesDouble) {
  const KernelTable& t = *GetParam();
  for (size_t n : {2, 6, 16, 30, 64, 80, 128, 576}) {
    const size_t half = n / 2;
    const std::vector<float> x = random(n, -3, 3), c = random(half), s = random(half);
    std::vector<float> y = x;
    t.rope(y.data(), c.data(), s.data(), n);
    for (size_t i = 0; i < half; ++i) {
      const double ac = double{x[i]} * c[i], bs = double{x[i + half]} * s[i];
      const double bc = double{x[i + half]} * c[i], as = double{x[i]} * s[i];
      // Each product and the sum are rounded: 2 u.
      ASSERT_NEAR(y[i], ac - bs, 2.01 * kU * (std::fabs(ac) + std::fabs(bs))) << n << " " << i;
      ASSERT_NEAR(y[i + half], bc + as, 2.01 * kU * (std::fabs(bc) + std::fabs(as)));
    }
  }
}

TEST_P(KernelTest, SiluMulMatchesDouble) {
  const KernelTable& t = *GetParam();
  for (float top : {1.0f, 10.0f, 100.0f, 1000.0f})
    for (size_t n : {1, 2, 6, 16, 30, 64, 97, 576}) {
      std::vector<float> gate = random(n, -top, top), up = random(n, -3, 3), y(n);
      gate[0] = 0;
      t.silu_mul(gate.data(), up.data(), n, y.data());
      for (size_t i = 0; i < n; ++i) {
        const double g = gate[i], want = g / (1 + std::exp(-g)) * up[i];
        // e^-g within 2 ulp, 4 u; the sum, the quotient and the product add 3 u. Below -87 the
        // exponential overflows or is held at e^88: what is left of g is less than |g| e^-87.
        const double bound =
            7.01 * kU * std::fabs(want) + (g < -87 ? std::fabs(g * up[i]) * std::exp(-87.0) : 0);
        ASSERT_NEAR(y[i], want, bound) << gate[i];
      }
      std::vector<float> over_gate = gate, over_up = up;  // the result may replace an input
      t.silu_mul(over_gate.data(), up.data(), n, over_gate.data());
      EXPECT_EQ(over_gate, y);
      t.silu_mul(gate.data(), over_up.data(), n, over_up.data());
      EXPECT_EQ(over_up, y);
    }
}

TEST_P(KernelTest, SoftmaxWeightsMatchDouble) {
  const KernelTable& t = *GetParam();
  for (float inverse : {0.5f, 1.0f, 100.0f})
    for (size_t n : {1, 2, 6, 16, 30, 64, 97, 576}) {
      std::vector<float> x = random(n, 3 - 95 / inverse, 3);
      x[n / 2] = 3;
      if (n > 2) x[1] = -INFINITY;
      std::vector<float> y = x;
      t.softmax_weights(y.data(), n, 3, inverse);
      EXPECT_EQ(y[n / 2], 1.0f);
      for (size_t i = 0; i < n; ++i) {
        const double e = (double{x[i]} - 3) * inverse, want = std::exp(e);
        // The difference and the product are rounded, the exponential is within 2 ulp; near the end
        // e^-87 is missing.
        const double bound = (2 * std::fabs(e) + 5) * kU * want + 1.01 * std::exp(-87.0);
        if (std::isinf(x[i]))
          EXPECT_EQ(y[i], 0.0f);
        else
          ASSERT_NEAR(y[i], want, bound) << e;
        ASSERT_GE(y[i], 0.0f);
      }
    }
}

TEST_P(KernelTest, ReadMemorySumsAll) {
  const size_t n = 64 * 37;
  const std::vector<float> x = random(n, 0, 1);
  double sum = 0;
  for (float v : x) sum += v;
  EXPECT_NEAR(GetParam()->read_memory(x.data(), n), sum, static_cast<double>(n) * kU * sum);
}

TEST(KernelTable, UnknownSetIsNull) {
  EXPECT_EQ(table_named("sse9"), nullptr);
  EXPECT_STREQ(table_named("ref")->name, "ref");
}

}  // namespace
}  // namespace octet::kernels
