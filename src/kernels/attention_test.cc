// KV pages and attention over them, on every instruction set that this machine can run, against
// plain arithmetic in double.
#include <optional>

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
                                                              {2, 128, 63, 2, 2},
                                                              {1, 64, 128, 1, 2},
                                                              {1, 96, 200, 2, 2},
                                                              {2, 512, 120, 3, 2},
                                                              {2, 256, 100, 30, 2},
                                                              {3, 64, 300, 1, 2},
                                                              {14, 64, 250, 12, 2},
                                                              {2, 80, 127, 33, 2}})
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
            // ulp; each block has a factor, and later ones may move the maximum: another
            // difference, exponential, product.
            const size_t seen_blocks = (seen + kAttentionBlock - 1) / kAttentionBlock;
            const auto blocks = static_cast<double>(seen_blocks);
            const double weight_error = score_error + (blocks + 1) * kU * ((top - low) + 5);
            // Numerator and denominator hold it, a sum over `seen` terms and one over the blocks
            // each; a quotient ends.
            const double error =
                2 * weight_error + (2 * (static_cast<double>(seen) + blocks) + 3) * kU;
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

// A sequence with queries for all of its query heads, of one KV head.
struct Query {
  Query(const KernelTable& kernels, FloatType page_type, size_t query_heads, size_t size,
        size_t first, size_t count, const std::vector<float>& numbers)
      : t(kernels), type(page_type), group(query_heads), hd(size), position(first), tokens(count) {
    const size_t length = position + tokens;
    const auto begin = numbers.begin();
    const auto part = [&](size_t from, size_t n) {
      return std::vector<float>(begin + static_cast<ptrdiff_t>(from),
                                begin + static_cast<ptrdiff_t>(from + n));
    };
    q = part(0, tokens * group * hd);
    cache.emplace(t, type, length, 1, hd, part(q.size(), length * hd),
                  part(q.size() + length * hd, length * hd));
  }
  static size_t numbers(size_t group, size_t hd, size_t position, size_t tokens) {
    return tokens * group * hd + 2 * (position + tokens) * hd;
  }
  // For `count` tokens from `first` on.
  AttentionArgs args(size_t first, size_t count, float* out) const {
    return {q.data() + first * group * hd,
            group * hd,
            out,
            group * hd,
            count,
            position + first,
            group,
            0,
            hd,
            cache->k_pool.data(),
            cache->v_pool.data(),
            cache->page,
            cache->blocks.data(),
            type,
            0.125f};
  }
  const KernelTable& t;
  FloatType type;
  size_t group, hd, position, tokens;
  std::vector<float> q;
  std::optional<PagedCache> cache;
};

// A row takes the same operations alone, among few rows and among many.
TEST_P(AttentionTest, RowsDoNotDependOnTheirBatch) {
  for (FloatType type : kTypes)
    for (size_t group : {1, 2, 3, 7})
      for (size_t hd : {16, 64, 80, 128}) {
        const size_t position = 110, tokens = 40;
        const Query query(*GetParam(), type, group, hd, position, tokens,
                          random(Query::numbers(group, hd, position, tokens)));
        std::vector<float> all(tokens * group * hd), some(all.size());
        GetParam()->attention(query.args(0, tokens, all.data()));
        for (size_t step : {1, 2, 5}) {
          for (size_t first = 0; first < tokens; first += step)
            GetParam()->attention(query.args(first, std::min(step, tokens - first),
                                             some.data() + first * group * hd));
          ASSERT_EQ(some, all) << group << " x " << hd << ", " << step << " tokens at a time";
        }
      }
}

// Blocks in any order and in any parts, then merged: as in one call.
TEST_P(AttentionTest, PartsOfTheKeysMergeToTheSame) {
  for (FloatType type : kTypes)
    for (size_t tokens : {1, 3, 20}) {
      const size_t group = 3, hd = 64, position = 4 * kAttentionBlock - 10;
      const Query query(*GetParam(), type, group, hd, position, tokens,
                        random(Query::numbers(group, hd, position, tokens), -3, 3));
      const size_t blocks = (position + tokens + kAttentionBlock - 1) / kAttentionBlock;
      std::vector<float> whole(tokens * group * hd), merged(whole.size());
      GetParam()->attention(query.args(0, tokens, whole.data()));
      std::vector<float> states(blocks * tokens * group * (hd + 2), NAN);
      AttentionArgs args = query.args(0, tokens, merged.data());
      args.states = states.data();
      for (size_t end = blocks; end > 0; end -= std::min<size_t>(end, 2)) {
        args.block_begin = end - std::min<size_t>(end, 2);
        args.block_end = end;
        GetParam()->attention(args);
      }
      args.block_end = blocks;
      GetParam()->attention_merge(args);
      ASSERT_EQ(merged, whole) << tokens;
    }
}

}  // namespace
}  // namespace octet::kernels
