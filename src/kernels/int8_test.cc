// Quantized activations and their products, bit for bit, on every instruction set that this machine
// can run.
#include <cstring>

#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

// Quantized element i of a row, without the set's shift.
int level(const KernelTable& t, const uint8_t* row, size_t i) {
  if (t.act_bytes == 2) {
    int16_t v;
    std::memcpy(&v, row + 2 * i, 2);
    return v;
  }
  return t.act_shift != 0 ? row[i] - t.act_shift : static_cast<int8_t>(row[i]);
}

class Int8Test : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Sets, Int8Test, testing::ValuesIn(tables()), set_name);

// Weights with -128, activations that saturate on both sides, odd sizes, panels split in two calls.
TEST_P(Int8Test, Int8GemmIsExact) {
  const KernelTable& t = *GetParam();
  struct Case {
    size_t m, n, k;
  };
  std::vector<Case> cases;
  for (size_t m = 1; m <= 14; ++m) cases.push_back({m, 67, 37});
  for (size_t m : {15, 16, 17, 31, 32, 33, 47, 48, 63, 70}) cases.push_back({m, 131, 150});
  for (size_t m : {40, 50, 270}) cases.push_back({m, 35, 1100});
  for (size_t n : {1, 3, 15, 16, 17, 63, 64, 65, 130}) cases.push_back({5, n, 66});
  for (size_t k : {1, 2, 3, 4, 5, 64, 127, 14336, 32768}) cases.push_back({3, 20, k});
  std::uniform_int_distribution<int> byte(-128, 127);
  for (const Case& c : cases) {
    SCOPED_TRACE(testing::Message() << c.m << " " << c.n << " " << c.k);
    std::vector<int8_t> w(c.n * c.k);
    for (auto& v : w) v = static_cast<int8_t>(byte(rng_) % 4 == 0 ? -128 : byte(rng_));
    if (c.k >= 14336) std::fill(w.begin(), w.end(), int8_t{-128});  // the largest possible sums
    const float scale = 0.03f, offset = -37;
    std::vector<float> x = random(c.m * c.k, -4, 8);  // saturates above (127 + 37) * 0.03 = 4.9
    if (c.k >= 14336) std::fill(x.begin(), x.end(), -100.0f);
    const size_t panels = int8_panels(t, c.n), kp = padded_k(t, c.k), lda = kp + 64;
    std::vector<int8_t> packed(panels * t.int8_panel * kp, 0x6e);  // what nobody writes is no zero
    t.int8_pack(w.data(), c.n, c.k, 0, panels, packed.data());
    std::vector<uint8_t> a(c.m * lda * t.act_bytes, 0xee);
    for (size_t r = 0; r < c.m; ++r)
      t.quantize(x.data() + r * c.k, c.k, scale, offset, a.data() + r * lda * t.act_bytes);
    std::vector<int32_t> quant_bias(panels * t.int8_panel), bias(panels * t.int8_panel);
    std::vector<float> deq(panels * t.int8_panel);
    for (size_t j = 0; j < c.n; ++j) {
      int64_t colsum = 0;
      for (size_t i = 0; i < c.k; ++i) colsum += w[j * c.k + i];
      quant_bias[j] = byte(rng_) * 1000;
      bias[j] = static_cast<int32_t>(quant_bias[j] - t.act_shift * colsum);
      deq[j] = 0.001f * static_cast<float>(j + 1);
    }
    std::vector<float> y(c.m * c.n, 0.5f);
    for (auto [begin, end] : {std::pair{size_t{0}, panels / 2}, std::pair{panels / 2, panels}})
      t.int8_gemm({a.data(), lda, c.m, packed.data(), c.k, c.n, begin, end, bias.data(), deq.data(),
                   y.data(), c.n, true});
    // The integers themselves, and nothing beside them.
    std::vector<int32_t> sums(c.m * c.n + 1, 77);
    const std::vector<float> before = y;
    t.int8_gemm({.a = a.data(),
                 .lda = lda,
                 .m = c.m,
                 .packed = packed.data(),
                 .k = c.k,
                 .n = c.n,
                 .panel_begin = 0,
                 .panel_end = panels,
                 .bias = bias.data(),
                 .scale = deq.data(),
                 .y = y.data(),
                 .ldy = c.n,
                 .accumulate = false,
                 .sums = sums.data()});
    EXPECT_EQ(y, before);
    EXPECT_EQ(sums.back(), 77);
    for (size_t r = 0; r < c.m; ++r)
      for (size_t j = 0; j < c.n; ++j) {
        int64_t acc = quant_bias[j];
        for (size_t i = 0; i < c.k; ++i) {
          const float q = std::nearbyint(x[r * c.k + i] / scale) + offset;
          acc += static_cast<int64_t>(std::fmin(std::fmax(q, -128.0f), 127.0f)) * w[j * c.k + i];
        }
        ASSERT_LE(std::abs(acc), INT32_MAX);
        ASSERT_EQ(sums[r * c.n + j], acc);
        ASSERT_EQ(y[r * c.n + j], 0.5f + static_cast<float>(static_cast<int32_t>(acc)) * deq[j]);
      }
  }
}

// Ties go to even before the offset is added, and infinities saturate.
TEST_P(Int8Test, QuantizeRoundsAndSaturates) {
  const KernelTable& t = *GetParam();
  const std::vector<float> x = {0.5f,   1.5f,     2.5f,      -0.5f, -1.5f, 1e30f,
                                -1e30f, INFINITY, -INFINITY, 3,     0};
  const std::vector<int> expected = {1, 3, 3, 1, -1, 127, -128, 127, -128, 4, 1};
  std::vector<uint8_t> out(16 * t.act_bytes, 0xee);
  t.quantize(x.data(), x.size(), 1.0f, 1.0f, out.data());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(level(t, out.data(), i), expected[i]) << i;
}

// Sizes around every vector's length, huge and tiny values, rows of zeros, ties.
TEST_P(Int8Test, QuantizeTokenIsExact) {
  const KernelTable& t = *GetParam();
  std::vector<std::vector<float>> rows;
  for (size_t k : {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 127, 1000})
    for (float top : {1.0f, 1.7e38f, 1e-30f, 1e-40f}) rows.push_back(random(k, -top, top));
  for (size_t k : {1, 8, 19}) rows.emplace_back(k, 0.0f);
  rows.push_back({127, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -127, 126.5f, -0.0f});  // a scale of one
  rows.push_back({-254, 253, 1, 3, 5, 7, 9, -1, -3});
  rows.push_back({3e-43f, -2e-43f, 1e-45f});  // a scale of 2^-149 at most: levels are held at 127
  rows.push_back({1e-45f, 0, -1e-45f});       // max / 127 is zero
  for (const std::vector<float>& x : rows) {
    float top = 0;
    for (float v : x) top = std::fmax(top, std::fabs(v));
    const float scale = top / 127 > 0 ? top / 127 : 1;
    std::vector<uint8_t> out((padded_k(t, x.size()) + 1) * t.act_bytes, 0xee);
    EXPECT_EQ(t.quantize_token(x.data(), x.size(), out.data()), scale);
    for (size_t i = 0; i < x.size(); ++i)
      ASSERT_EQ(level(t, out.data(), i),
                static_cast<int>(std::clamp(std::nearbyint(x[i] / scale), -127.0f, 127.0f)))
          << x.size() << " " << i << " " << x[i] << " " << scale;
    for (size_t i = 0; i < t.act_bytes; ++i)  // no byte beyond the padding
      EXPECT_EQ(out[padded_k(t, x.size()) * t.act_bytes + i], 0xee);
  }
}

// A scale of its own for every row, and a float bias, or not: each operation rounds once.
TEST_P(Int8Test, RowScalesAndFloatBiasesAreExact) {
  const KernelTable& t = *GetParam();
  struct Case {
    size_t m, n, k;
  };
  std::vector<Case> cases = {{1, 1, 1}, {2, 20, 14336}};
  for (size_t m = 1; m <= 13; ++m) cases.push_back({m, 67, 37});
  for (size_t m : {16, 33, 50}) cases.push_back({m, 131, 150});
  for (size_t n : {15, 16, 17, 63, 64, 65, 130}) cases.push_back({3, n, 66});
  std::uniform_int_distribution<int> byte(-128, 127);
  for (const Case& c : cases)
    for (bool with_bias : {false, true})
      for (bool accumulate : {false, true}) {
        SCOPED_TRACE(testing::Message() << c.m << " " << c.n << " " << c.k);
        std::vector<int8_t> w(c.n * c.k);
        for (int8_t& v : w) v = static_cast<int8_t>(byte(rng_) % 4 == 0 ? -128 : byte(rng_));
        std::vector<float> x = random(c.m * c.k, -5, 5);
        std::fill_n(x.begin(), c.k, c.m > 1 ? 0.0f : 3.0f);  // zeros in a batch; all levels at 127
        const size_t panels = int8_panels(t, c.n), kp = padded_k(t, c.k), lda = kp + 64;
        const size_t size = panels * t.int8_panel;
        std::vector<int8_t> packed(size * kp, 0x6e);
        t.int8_pack(w.data(), c.n, c.k, 0, panels, packed.data());
        std::vector<uint8_t> a(c.m * lda * t.act_bytes, 0xee);
        std::vector<float> row_scale(c.m);
        for (size_t r = 0; r < c.m; ++r)
          row_scale[r] =
              t.quantize_token(x.data() + r * c.k, c.k, a.data() + r * lda * t.act_bytes);
        std::vector<int32_t> shift(size);
        for (size_t j = 0; j < c.n; ++j)
          for (size_t i = 0; i < c.k; ++i) shift[j] -= t.act_shift * w[j * c.k + i];
        const std::vector<float> scale = random(size, 0.001f, 0.1f), bias = random(size);
        std::vector<float> y(c.m * c.n, 0.5f);
        t.int8_gemm({a.data(), lda, c.m, packed.data(), c.k, c.n, 0, panels, shift.data(),
                     scale.data(), y.data(), c.n, accumulate, row_scale.data(),
                     with_bias ? bias.data() : nullptr});
        for (size_t r = 0; r < c.m; ++r)
          for (size_t j = 0; j < c.n; ++j) {
            int64_t sum = 0;
            for (size_t i = 0; i < c.k; ++i)
              sum += static_cast<int64_t>(std::nearbyint(x[r * c.k + i] / row_scale[r])) *
                     w[j * c.k + i];
            volatile float want = static_cast<float>(static_cast<int32_t>(sum)) * scale[j];
            want = want * row_scale[r];
            if (with_bias) want = want + bias[j];
            if (accumulate) want = 0.5f + want;
            ASSERT_EQ(y[r * c.n + j], want);
          }
      }
}

TEST_P(Int8Test, RowsAreIndependentOfTheBatch) {
  const KernelTable& t = *GetParam();
  const size_t m = 13, n = 70, k = 95, panels = int8_panels(t, n), kp = padded_k(t, k);
  const size_t lda = kp + 64, row_bytes = lda * t.act_bytes;
  std::uniform_int_distribution<int> byte(-128, 127);
  std::vector<int8_t> w(n * k), packed(panels * t.int8_panel * kp);
  for (int8_t& v : w) v = static_cast<int8_t>(byte(rng_));
  t.int8_pack(w.data(), n, k, 0, panels, packed.data());
  const std::vector<float> x = random(m * k, -4, 4), scale = random(panels * t.int8_panel, 0.1f);
  const std::vector<int32_t> bias(panels * t.int8_panel, 1234);
  std::vector<uint8_t> a(m * row_bytes);
  for (size_t r = 0; r < m; ++r)
    t.quantize(x.data() + r * k, k, 0.03f, 5, a.data() + r * row_bytes);
  std::vector<float> all(m * n), few(m * n);
  const auto run = [&](size_t first, size_t rows, float* y) {
    t.int8_gemm({a.data() + first * row_bytes, lda, rows, packed.data(), k, n, 0, panels,
                 bias.data(), scale.data(), y, n, false});
  };
  run(0, m, all.data());
  for (size_t rows = 1; rows < m; ++rows)
    for (size_t first = 0; first + rows <= m; first += rows) {
      run(first, rows, few.data());
      EXPECT_EQ(0, std::memcmp(few.data(), all.data() + first * n, rows * n * sizeof(float)));
    }
}

}  // namespace
}  // namespace octet::kernels
