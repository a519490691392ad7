// Every instruction set that this machine can run against ref, and ref against plain arithmetic.
// Integers (and the floats computed from them by one multiplication) must be equal bit for bit;
// float sums are compared with the bound of recursive summation, k * eps * sum |a_i b_i|.
#include "src/kernels/kernels.h"

#include <gtest/gtest.h>

#include <cfloat>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

#include "src/base/float16.h"
#include "src/machine/cpu.h"

namespace octet::kernels {
namespace {

std::vector<const KernelTable*> tables() {
  std::vector<const KernelTable*> out;
  for (Isa isa : supported_isas()) out.push_back(table_named(isa_name(isa).c_str()));
  return out;
}

std::string set_name(const testing::TestParamInfo<const KernelTable*>& info) {
  return info.param->name;
}

class KernelTest : public testing::TestWithParam<const KernelTable*> {
 protected:
  std::vector<float> random(size_t n, float lo = -1, float hi = 1) {
    std::uniform_real_distribution<float> d(lo, hi);
    std::vector<float> v(n);
    for (float& f : v) f = d(rng_);
    return v;
  }
  std::mt19937 rng_{7};
};

INSTANTIATE_TEST_SUITE_P(Sets, KernelTest, testing::ValuesIn(tables()), set_name);

// Weights with -128, activations that saturate on both sides, odd sizes, panels split in two calls.
TEST_P(KernelTest, Int8GemmIsExact) {
  const KernelTable& t = *GetParam();
  struct Case {
    size_t m, n, k;
  };
  std::vector<Case> cases;
  for (size_t m = 1; m <= 14; ++m) cases.push_back({m, 67, 37});
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
    std::vector<int8_t> packed(panels * t.int8_panel * kp);
    t.int8_pack(w.data(), c.n, c.k, 0, panels, packed.data());
    std::vector<uint8_t> a(c.m * lda * t.act_bytes);
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
    for (size_t r = 0; r < c.m; ++r)
      for (size_t j = 0; j < c.n; ++j) {
        int64_t acc = quant_bias[j];
        for (size_t i = 0; i < c.k; ++i) {
          const float q = std::nearbyint(x[r * c.k + i] / scale) + offset;
          acc += static_cast<int64_t>(std::fmin(std::fmax(q, -128.0f), 127.0f)) * w[j * c.k + i];
        }
        ASSERT_LE(std::abs(acc), INT32_MAX);
        ASSERT_EQ(y[r * c.n + j], 0.5f + static_cast<float>(static_cast<int32_t>(acc)) * deq[j]);
      }
  }
}

// Ties go to even before the offset is added, and infinities saturate.
TEST_P(KernelTest, QuantizeRoundsAndSaturates) {
  const KernelTable& t = *GetParam();
  const std::vector<float> x = {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, 1e30f, -1e30f, INFINITY, -INFINITY, 3, 0};
  const std::vector<int> expected = {1, 3, 3, 1, -1, 127, -128, 127, -128, 4, 1};
  std::vector<uint8_t> out(16 * t.act_bytes, 0xee);
  t.quantize(x.data(), x.size(), 1.0f, 1.0f, out.data());
  for (size_t i = 0; i < x.size(); ++i) {
    int v = 0;
    if (t.act_bytes == 2) {
      int16_t h;
      std::memcpy(&h, &out[i * 2], 2);
      v = h;
    } else {
      v = t.act_shift != 0 ? out[i] - t.act_shift : static_cast<int8_t>(out[i]);
    }
    EXPECT_EQ(v, expected[i]) << i;
  }
}

TEST_P(KernelTest, FloatGemmMatchesDoubleSums) {
  const KernelTable& t = *GetParam();
  for (FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16})
    for (auto [m, n, k] : {std::array<size_t, 3>{1, 1, 1}, {1, 100, 77}, {9, 49, 130}, {13, 97, 64},
                           {2, 48, 33}}) {
      const std::vector<float> a = random(m * k), w = random(n * k), b0 = random(n);
      std::vector<uint16_t> half(n * k);
      std::vector<float> exact = w;
      for (size_t i = 0; i < n * k; ++i) {
        if (type == FloatType::kF16) half[i] = to_f16(w[i]).bits, exact[i] = to_float(f16{half[i]});
        if (type == FloatType::kBF16)
          half[i] = to_bf16(w[i]).bits, exact[i] = to_float(bf16{half[i]});
      }
      const size_t panels = float_panels(t, n);
      std::vector<float> packed(panels * t.float_panel * k), bias(panels * t.float_panel);
      std::copy(b0.begin(), b0.end(), bias.begin());
      t.float_pack(type == FloatType::kF32 ? static_cast<const void*>(w.data()) : half.data(), type,
                   n, k, 0, panels, packed.data());
      std::vector<float> y(m * n, 2.0f);
      t.float_gemm({a.data(), k, m, packed.data(), type, k, n, 0, panels, bias.data(), y.data(), n,
                    true});
      for (size_t r = 0; r < m; ++r)
        for (size_t j = 0; j < n; ++j) {
          double sum = bias[j], magnitude = std::fabs(bias[j]) + 2;
          for (size_t i = 0; i < k; ++i) {
            const double p = double{a[r * k + i]} * exact[j * k + i];
            sum += p;
            magnitude += std::fabs(p);
          }
          ASSERT_NEAR(y[r * n + j], 2 + sum, static_cast<double>(k + 2) * FLT_EPSILON * magnitude);
        }
    }
}

// A row's result does not depend on the rows that run beside it.
TEST_P(KernelTest, RowsAreIndependentOfTheBatch) {
  const KernelTable& t = *GetParam();
  const size_t m = 13, n = 70, k = 95, panels = float_panels(t, n);
  const std::vector<float> a = random(m * k), w = random(n * k);
  std::vector<float> packed(panels * t.float_panel * k), all(m * n), one(n);
  t.float_pack(w.data(), FloatType::kF32, n, k, 0, panels, packed.data());
  t.float_gemm({a.data(), k, m, packed.data(), FloatType::kF32, k, n, 0, panels, nullptr, all.data(),
                n, false});
  for (size_t r = 0; r < m; ++r) {
    t.float_gemm({a.data() + r * k, k, 1, packed.data(), FloatType::kF32, k, n, 0, panels, nullptr,
                  one.data(), n, false});
    EXPECT_EQ(0, std::memcmp(one.data(), all.data() + r * n, n * sizeof(float)));
  }
}

TEST_P(KernelTest, ElementwiseOpsMatchRef) {
  const KernelTable& t = *GetParam();
  const KernelTable& r = ref::table();
  for (size_t n : {2, 6, 16, 30, 64, 97, 576}) {
    const std::vector<float> x = random(n, -3, 3), w = random(n), b = random(n);
    std::vector<float> y(n), z(n);
    t.rms_norm(x.data(), w.data(), b.data(), n, 1e-5f, y.data());
    r.rms_norm(x.data(), w.data(), b.data(), n, 1e-5f, z.data());
    // The sum of squares has relative error (n + 3) eps on both sides; |x r w| <= sqrt(n).
    const float bound = static_cast<float>(n + 8) * FLT_EPSILON * std::sqrt(static_cast<float>(n));
    for (size_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], z[i], bound);

    const std::vector<float> gate = random(n, -100, 100);
    t.silu_mul(gate.data(), x.data(), n, y.data());
    r.silu_mul(gate.data(), x.data(), n, z.data());
    // exp within 4 ulp; far out on the negative side the clamp of exp at 2^126 leaves < 1e-35.
    for (size_t i = 0; i < n; ++i)
      ASSERT_NEAR(y[i], z[i], 8 * FLT_EPSILON * std::fabs(z[i]) + 1e-34f) << gate[i];

    if (n % 2 == 0) {
      const std::vector<float> c = random(n / 2), s = random(n / 2);
      y = z = x;
      t.rope(y.data(), c.data(), s.data(), n);
      r.rope(z.data(), c.data(), s.data(), n);
      for (size_t i = 0; i < n; ++i) ASSERT_NEAR(y[i], z[i], 4 * FLT_EPSILON * 6);
    }
  }
}

// Pages in a scrambled order, grouped heads, every storage type, several positions.
TEST_P(KernelTest, AttentionMatchesRef) {
  const KernelTable& t = *GetParam();
  const KernelTable& r = ref::table();
  for (FloatType type : {FloatType::kF32, FloatType::kF16, FloatType::kBF16})
    for (auto [group, hd, position, tokens] :
         {std::array<size_t, 4>{1, 16, 0, 1}, {3, 64, 0, 7}, {7, 64, 45, 1}, {2, 32, 31, 40},
          {4, 80, 100, 5}, {2, 10, 3, 3}}) {
      SCOPED_TRACE(testing::Message() << group << " " << hd << " " << position << " " << tokens);
      const size_t kv_heads = 2, length = position + tokens;
      const size_t pages = (length + kBlockTokens - 1) / kBlockTokens;
      const size_t page = kv_heads * hd * kBlockTokens;
      std::vector<float> k_pool((pages + 1) * page), v_pool((pages + 1) * page);  // large enough
      std::vector<int32_t> blocks(pages);
      for (size_t i = 0; i < pages; ++i) blocks[i] = static_cast<int32_t>(pages - i);
      const size_t size = float_type_size(type);
      for (size_t s = 0; s < length; ++s)
        for (size_t h = 0; h < kv_heads; ++h) {
          const std::vector<float> k = random(hd, -2, 2), v = random(hd);
          const size_t at = (static_cast<size_t>(blocks[s / kBlockTokens]) * page +
                             h * hd * kBlockTokens) * size;
          t.kv_store(k.data(), v.data(), hd, s % kBlockTokens, type,
                     reinterpret_cast<char*>(k_pool.data()) + at,
                     reinterpret_cast<char*>(v_pool.data()) + at);
        }
      const size_t width = group * hd;
      const std::vector<float> q = random(tokens * width, -2, 2);
      std::vector<float> y(tokens * width), z(tokens * width);
      AttentionArgs args{q.data(), width, y.data(), width, tokens, position, group, 1, hd,
                         k_pool.data(), v_pool.data(), page, blocks.data(), type,
                         1 / std::sqrt(static_cast<float>(hd))};
      t.attention(args);
      args.out = z.data();
      r.attention(args);
      // Scores: |q.k| <= 4 hd, each sum within hd eps of it, so exp within that relative error; the
      // weighted mean of |v| <= 1 adds length eps.
      const float bound =
          (8 * static_cast<float>(hd) * std::sqrt(static_cast<float>(hd)) +
           2 * static_cast<float>(length) + 16) * FLT_EPSILON;
      for (size_t i = 0; i < y.size(); ++i) ASSERT_NEAR(y[i], z[i], bound);
    }
}

TEST(KernelTable, UnknownSetIsNull) {
  EXPECT_EQ(table_named("sse9"), nullptr);
  EXPECT_STREQ(table_named("ref")->name, "ref");
}

}  // namespace
}  // namespace octet::kernels
