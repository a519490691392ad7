// How attention is shared by workers, and that it does not matter.
#include "src/model/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "src/model/kv_cache.h"

namespace octet {
namespace {

ModelConfig heads(int64_t query_heads, int64_t kv_heads, int64_t head_dim) {
  ModelConfig c;
  c.layers = 1;
  c.hidden_size = query_heads * head_dim;
  c.intermediate_size = 8;
  c.heads = query_heads;
  c.kv_heads = kv_heads;
  c.head_dim = head_dim;
  return c;
}

// As in SmolLM2-135M, Qwen2.5-0.5B and 1.5B, Llama-3.1-8B, Llama-2-7B, Qwen2.5-72B.
const std::vector<ModelConfig> kShapes = {heads(9, 3, 64),   heads(14, 2, 64),   heads(12, 2, 128),
                                          heads(32, 8, 128), heads(32, 32, 128), heads(64, 8, 128)};

std::vector<SequenceChunk> chunks(std::vector<SequenceChunk> of) {
  size_t row = 0;
  for (SequenceChunk& s : of) {
    s.first_row = row;
    row += s.tokens;
  }
  return of;
}

std::vector<SequenceChunk> generating(size_t sequences, size_t position) {
  return chunks(std::vector<SequenceChunk>(sequences, {0, 1, position}));
}

const std::map<std::string, std::vector<SequenceChunk>> kSteps = {
    {"prompt of 512", {{0, 512, 0}}},
    {"512 tokens after 8192", {{0, 512, 8192}}},
    {"one token after 2048", generating(1, 2047)},
    {"one token after 131072", generating(1, 131071)},
    {"16 sequences", generating(16, 700)},
    {"a prompt beside generation", chunks({{0, 1, 4000}, {0, 300, 0}, {0, 1, 20}, {0, 77, 500}})},
};

// Every block of every item once, for all shapes, steps and numbers of workers; and nobody has more
// than 1.1 times the mean, or the mean and what cannot be cut.
TEST(AttentionPlan, SharesTheWorkEvenly) {
  for (const ModelConfig& config : kShapes)
    for (const auto& [name, step] : kSteps)
      for (size_t workers : {1, 2, 3, 4, 7, 8, 16, 32, 64, 128}) {
        SCOPED_TRACE(testing::Message() << config.heads << " heads, " << name << ", " << workers);
        const RankShape shape(config);
        AttentionPlan plan;
        plan.set(shape, step, workers);
        std::vector<size_t> done(plan.items().size());
        double total = 0, most = 0, unit = 0;
        for (const AttentionPlan::Item& item : plan.items())
          unit = std::max(unit, plan.cost(shape, item, 0, item.tokens == 1 ? 1 : item.blocks));
        for (size_t w = 0; w < workers; ++w) {
          double own = 0;
          for (const AttentionPlan::Piece& p : plan.pieces(w)) {
            ASSERT_EQ(p.block_begin, done[p.item]);
            ASSERT_LT(p.block_begin, p.block_end);
            done[p.item] = p.block_end;
            own += plan.cost(shape, plan.items()[p.item], p.block_begin, p.block_end);
          }
          total += own;
          most = std::max(most, own);
        }
        for (size_t i = 0; i < done.size(); ++i) ASSERT_EQ(done[i], plan.items()[i].blocks);
        const double mean = total / static_cast<double>(workers);
        EXPECT_LE(most, std::max(1.1 * mean, mean + unit));
        if (name != "one token after 2048" && name != "16 sequences" && workers <= 16) {
          EXPECT_LE(most, 1.1 * mean);
        }
      }
}

// The tokens of a chunk are covered once per KV head, by items with all keys that they see.
TEST(AttentionPlan, CoversTokensAndKeys) {
  for (size_t workers : {1, 5, 64})
    for (const auto& [name, step] : kSteps) {
      AttentionPlan plan;
      plan.set(RankShape(kShapes[1]), step, workers);
      std::map<std::pair<size_t, size_t>, size_t> next;  // chunk, KV head -> token
      for (const AttentionPlan::Item& item : plan.items()) {
        EXPECT_EQ(item.first, (next[{item.chunk, item.kv_head}]));
        next[{item.chunk, item.kv_head}] += item.tokens;
        const size_t keys = step[item.chunk].position + item.first + item.tokens;
        EXPECT_GE(item.blocks * kernels::kAttentionBlock, keys);
        EXPECT_LT((item.blocks - 1) * kernels::kAttentionBlock, keys);
      }
      for (size_t c = 0; c < step.size(); ++c)
        for (size_t h = 0; h < 2; ++h) EXPECT_EQ((next[{c, h}]), step[c].tokens) << name;
    }
}

// One prompt, one token late in a long sequence, one early: bit for bit the same by one worker and
// by many, who cut the long one, also when a plan is used again.
TEST(AttentionPlan, ResultsDoNotDependOnTheWorkers) {
  const ModelConfig config = heads(6, 2, 16);
  const RankShape shape(config);
  const size_t blocks = 64, rows = 22;
  for (kernels::FloatType type : {kernels::FloatType::kF16, kernels::FloatType::kI8}) {
    std::mt19937 rng(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    KvCache cache(config, blocks, type);
    std::vector<int32_t> pages;
    ASSERT_TRUE(cache.allocate(blocks, pages));
    KvCacheParams scales;
    for (size_t i = 0; i < shape.kv_size(); ++i) {
      scales.v_scale.push_back(0.01f + 0.001f * static_cast<float>(i));
      scales.v_offset.push_back(static_cast<float>(i % 5));
    }
    std::vector<float> qkv(rows * (shape.q_size() + 2 * shape.kv_size()));
    for (float& v : qkv) v = uniform(rng);
    const size_t hd = shape.head_dim;
    std::vector<float> k(hd), v(hd);
    const size_t size = kernels::float_type_size(type);
    for (int32_t page : pages)
      for (size_t at = 0; at < kernels::kBlockTokens * shape.kv_heads; ++at) {
        const float span = type == kernels::FloatType::kI8 ? 120.0f : 1.0f;
        for (size_t d = 0; d < hd; ++d) {
          k[d] = span * uniform(rng);
          v[d] = span * uniform(rng);
        }
        const size_t head = at / kernels::kBlockTokens;
        const size_t offset = (static_cast<size_t>(page) * cache.page_elements() +
                               head * hd * kernels::kBlockTokens) *
                              size;
        kernels::table().kv_store(k.data(), v.data(), hd, at % kernels::kBlockTokens, type,
                                  static_cast<char*>(cache.k_pool(0)) + offset,
                                  static_cast<char*>(cache.v_pool(0)) + offset);
      }
    const KvView view{cache.k_pool(0), cache.v_pool(0), cache.page_elements(), cache.type()};
    const std::vector<SequenceChunk> step = {
        {0, 20, 100, pages.data()}, {20, 1, 2040, pages.data()}, {21, 1, 3, pages.data()}};
    std::vector<float> expected;
    for (size_t workers : {1, 2, 3, 5, 8}) {
      ThreadTeam team(workers);
      AttentionPlan plan;
      plan.set(shape, step, workers);
      size_t most_pieces = 0;
      for (const AttentionPlan::Item& item : plan.items())
        most_pieces = std::max(most_pieces, item.pieces);
      EXPECT_GE(most_pieces, workers > 2 ? 2 : 1);  // the long one is cut
      for (int round = 0; round < 3; ++round) {
        std::vector<float> out(rows * shape.q_size(), NAN);
        team.run([&](Worker& w) { plan.compute(w, shape, view, scales, qkv.data(), out.data()); });
        if (expected.empty()) expected = out;
        ASSERT_EQ(out, expected) << workers << " workers, round " << round;
      }
    }
  }
}

}  // namespace
}  // namespace octet
