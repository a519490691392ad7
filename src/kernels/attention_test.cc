// KV pages and attention over them, on every instruction set that this machine can run, against
// plain arithmetic in double.
#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

class AttentionTest : public KernelTest {};
INSTANTIATE_TEST_SUITE_P(Sets, AttentionTest, testing::ValuesIn(tables()), set_name);

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
TEST_P(AttentionTest, KvStoreFillsPagesInTheirLayout) {
  const size_t length = 45, heads = 3, hd = 10;
  for (FloatType type : kTypes) {
    const float span = 1.2f * span_of(type);  // int8 saturates on both sides
    std::vector<float> k = random(length * heads * hd, -span, span);
    std::vector<float> v = random(length * heads * hd, -span, span);
    if (type == FloatType::kI8) {
      const std::vector<float> special = {0.5f,     1.5f,      -2.5f, 127.5f,
                                          INFINITY, -INFINITY, NAN,   1e30f};
      std::copy(special.begin(), special.end(), k.begin());
      std::copy(special.begin(), special.end(), v.begin() + 5);
    }
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
TEST_P(AttentionTest, AttentionMatchesDouble) {
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
        const float span = span_of(type);
        const std::vector<float> k = random(length * kv_heads * hd, -2 * span, 2 * span);
        const std::vector<float> v = random(length * kv_heads * hd, -span, span);
        const std::vector<float> q = random(tokens * width, -spread / span, spread / span);
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
            const size_t seen_pages = (seen + kBlockTokens - 1) / kBlockTokens;
            const auto pages = static_cast<double>(seen_pages);
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

}  // namespace
}  // namespace octet::kernels
