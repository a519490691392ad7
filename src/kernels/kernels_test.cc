// Every instruction set that this machine can run, ref included, against plain arithmetic written
// in the tests. Integers (and the floats computed from them by one multiplication) must be equal
// bit for bit. Float results are compared with double: u = eps / 2 is the rounding of one operation
// and a sum of n terms in any order is within n u of the sum of their amounts.
#include "src/kernels/kernels.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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

constexpr double kU = double{FLT_EPSILON} / 2;  // relative error of one rounded operation

// v rounded to the digits of a storage type, ties to even (its values here are in range).
float rounded(float v, FloatType type) {
  if (type == FloatType::kF32 || v == 0) return v;
  const int digits = type == FloatType::kF16 ? 11 : 8;
  const int lowest = type == FloatType::kF16 ? -24 : -133;  // exponents of the smallest values
  const int last = std::max(std::ilogb(v) + 1 - digits, lowest);
  return static_cast<float>(std::ldexp(std::nearbyint(std::ldexp(double{v}, -last)), last));
}

float element(const void* p, FloatType type, size_t i) {
  switch (type) {
    case FloatType::kF32:
      return static_cast<const float*>(p)[i];
    case FloatType::kF16:
      return to_float(static_cast<const f16*>(p)[i]);
    case FloatType::kBF16:
      return to_float(static_cast<const bf16*>(p)[i]);
  }
  return NAN;
}

// w [n, k] in a storage type: the bytes, and the values that they stand for.
struct StoredWeights {
  StoredWeights(const std::vector<float>& w, FloatType t) : type(t), full(w), values(w) {
    for (float& v : values) {
      v = rounded(v, type);
      half.push_back(type == FloatType::kF16 ? to_f16(v).bits : to_bf16(v).bits);
    }
  }
  const void* data() const {
    return type == FloatType::kF32 ? static_cast<const void*>(full.data()) : half.data();
  }
  FloatType type;
  std::vector<float> full, values;
  std::vector<uint16_t> half;
};

constexpr FloatType kTypes[] = {FloatType::kF32, FloatType::kF16, FloatType::kBF16};

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
  const std::vector<float> x = {0.5f,   1.5f,     2.5f,      -0.5f, -1.5f, 1e30f,
                                -1e30f, INFINITY, -INFINITY, 3,     0};
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
  for (FloatType type : kTypes)
    for (auto [m, n, k] :
         {std::array<size_t, 3>{1, 1, 1}, {1, 100, 77}, {9, 49, 130}, {13, 97, 64}, {2, 48, 33}}) {
      const std::vector<float> a = random(m * k), b0 = random(n);
      const StoredWeights w(random(n * k), type);
      const size_t panels = float_panels(t, n);
      std::vector<float> packed(panels * t.float_panel * k), bias(panels * t.float_panel);
      std::copy(b0.begin(), b0.end(), bias.begin());
      t.float_pack(w.data(), type, n, k, 0, panels, packed.data());
      std::vector<float> y(m * n, 2.0f);
      t.float_gemm(
          {a.data(), k, m, packed.data(), type, k, n, 0, panels, bias.data(), y.data(), n, true});
      for (size_t r = 0; r < m; ++r)
        for (size_t j = 0; j < n; ++j) {
          double sum = bias[j], magnitude = std::fabs(bias[j]) + 2;
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

// A row's result does not depend on the rows that run beside it, nor on how many there are.
TEST_P(KernelTest, RowsAreIndependentOfTheBatch) {
  const KernelTable& t = *GetParam();
  const size_t m = 13, n = 70, k = 95, panels = float_panels(t, n);
  for (FloatType type : kTypes) {
    const std::vector<float> a = random(m * k);
    const StoredWeights w(random(n * k), type);
    std::vector<float> packed(panels * t.float_panel * k), all(m * n), few(m * n);
    t.float_pack(w.data(), type, n, k, 0, panels, packed.data());
    const auto run = [&](size_t first, size_t rows, float* y) {
      t.float_gemm({a.data() + first * k, k, rows, packed.data(), type, k, n, 0, panels, nullptr, y,
                    n, false});
    };
    run(0, m, all.data());
    for (size_t rows = 1; rows < m; ++rows)
      for (size_t first = 0; first + rows <= m; first += rows) {
        run(first, rows, few.data());
        EXPECT_EQ(0, std::memcmp(few.data(), all.data() + first * n, rows * n * sizeof(float)));
      }
  }
}

TEST_P(KernelTest, Int8RowsAreIndependentOfTheBatch) {
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

// A sequence's keys and values [length, kv_heads, head_dim] in pages of a scrambled order.
struct PagedCache {
  PagedCache(const KernelTable& t, FloatType page_type, size_t length, size_t heads, size_t hd,
             const std::vector<float>& k, const std::vector<float>& v)
      : type(page_type), page(heads * hd * kBlockTokens) {
    const size_t pages = (length + kBlockTokens - 1) / kBlockTokens, size = float_type_size(type);
    k_pool.resize((pages + 1) * page * size, 0xee);
    v_pool.resize((pages + 1) * page * size, 0xee);
    for (size_t i = 0; i < pages; ++i) blocks.push_back(static_cast<int32_t>(pages - i));
    for (size_t s = 0; s < length; ++s)
      for (size_t h = 0; h < heads; ++h) {
        const size_t at = head(s, h, hd) * size, row = (s * heads + h) * hd;
        t.kv_store(&k[row], &v[row], hd, s % kBlockTokens, type, &k_pool[at], &v_pool[at]);
      }
  }
  // First element of a token's KV head in the pools.
  size_t head(size_t s, size_t h, size_t hd) const {
    return static_cast<size_t>(blocks[s / kBlockTokens]) * page + h * hd * kBlockTokens;
  }
  FloatType type;
  size_t page;  // elements
  std::vector<uint8_t> k_pool, v_pool;
  std::vector<int32_t> blocks;
};

// K [kv_head][head_dim][kBlockTokens], V [kv_head][kBlockTokens][head_dim], as kernels.h has it.
TEST_P(KernelTest, KvStoreFillsPagesInTheirLayout) {
  const size_t length = 45, heads = 3, hd = 10;
  for (FloatType type : kTypes) {
    const std::vector<float> k = random(length * heads * hd), v = random(length * heads * hd);
    const PagedCache cache(*GetParam(), type, length, heads, hd, k, v);
    for (size_t s = 0; s < length; ++s)
      for (size_t h = 0; h < heads; ++h)
        for (size_t d = 0; d < hd; ++d) {
          const size_t at = cache.head(s, h, hd), slot = s % kBlockTokens;
          const size_t row = (s * heads + h) * hd + d;
          ASSERT_EQ(element(cache.k_pool.data(), type, at + d * kBlockTokens + slot),
                    rounded(k[row], type));
          ASSERT_EQ(element(cache.v_pool.data(), type, at + slot * hd + d), rounded(v[row], type));
        }
  }
}

struct AttentionCase {
  size_t group, head_dim, position, tokens;
  float spread;  // of queries: 20 gives scores far apart
};

// Grouped heads, every storage type, several positions; softmax over all tokens up to the query's.
TEST_P(KernelTest, AttentionMatchesDouble) {
  const KernelTable& t = *GetParam();
  const size_t kv_heads = 2;
  for (FloatType type : kTypes)
    for (const auto& [group, hd, position, tokens, spread] : {AttentionCase{1, 16, 0, 1, 2},
                                                              {3, 64, 0, 7, 2},
                                                              {7, 64, 45, 1, 2},
                                                              {2, 32, 31, 40, 2},
                                                              {4, 80, 100, 5, 2},
                                                              {2, 10, 3, 3, 2},
                                                              {3, 64, 90, 7, 20},
                                                              {2, 128, 63, 2, 2}})
      for (size_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
        SCOPED_TRACE(testing::Message() << group << " " << hd << " " << position << " " << tokens);
        const size_t length = position + tokens, width = group * hd;
        const std::vector<float> k = random(length * kv_heads * hd, -2, 2);
        const std::vector<float> v = random(length * kv_heads * hd);
        const std::vector<float> q = random(tokens * width, -spread, spread);
        const PagedCache cache(t, type, length, kv_heads, hd, k, v);
        std::vector<float> y(tokens * width);
        const float scale = 1 / std::sqrt(static_cast<float>(hd));
        t.attention({q.data(), width, y.data(), width, tokens, position, group, kv_head, hd,
                     cache.k_pool.data(), cache.v_pool.data(), cache.page, cache.blocks.data(),
                     type, scale});
        for (size_t token = 0; token < tokens; ++token)
          for (size_t h = 0; h < group; ++h) {
            const float* query = &q[token * width + h * hd];
            const size_t seen = position + token + 1;
            std::vector<double> score(seen);
            double top = -INFINITY, low = INFINITY, score_error = 0;
            for (size_t s = 0; s < seen; ++s) {
              double amount = 0;
              for (size_t d = 0; d < hd; ++d) {
                const double p =
                    double{query[d]} * rounded(k[(s * kv_heads + kv_head) * hd + d], type);
                score[s] += p * scale;
                amount += std::fabs(p) * scale;
              }
              // Products and sums rounded apart or together: at most hd + 1; then the scale.
              score_error = std::fmax(score_error, static_cast<double>(hd + 2) * kU * amount);
              top = std::fmax(top, score[s]);
              low = std::fmin(low, score[s]);
            }
            double sum = 0;
            for (double p : score) sum += std::exp(p - top);
            // A weight: its score's error, the difference from the maximum rounded, e^x within 2
            // ulp; and each page may move the maximum: another difference, exponential, product.
            const double pages = static_cast<double>((seen + kBlockTokens - 1) / kBlockTokens);
            const double weight_error = score_error + (pages + 1) * kU * ((top - low) + 5);
            // Numerator and denominator hold it and a sum over `seen` terms each; a quotient ends.
            const double error = 2 * weight_error + (2 * static_cast<double>(seen) + 3) * kU;
            for (size_t d = 0; d < hd; ++d) {
              double want = 0, amount = 0;
              for (size_t s = 0; s < seen; ++s) {
                const double p = std::exp(score[s] - top) / sum *
                                 rounded(v[(s * kv_heads + kv_head) * hd + d], type);
                want += p;
                amount += std::fabs(p);
              }
              // e^x held at e^-87 or underflowing adds less than that for each token.
              ASSERT_NEAR(y[token * width + h * hd + d], want,
                          1.01 * error * amount + static_cast<double>(seen) * std::exp(-87.0));
            }
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
