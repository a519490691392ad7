#include "src/dist/shard.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet {
namespace {

ModelConfig config(int64_t heads, int64_t kv_heads, int64_t columns, int64_t vocab) {
  ModelConfig c;
  c.hidden_size = heads * 4;
  c.heads = heads;
  c.kv_heads = kv_heads;
  c.head_dim = 4;
  c.intermediate_size = columns;
  c.vocab_size = vocab;
  return c;
}

TEST(Shard, PartsCoverEverythingOnceForAnyNumberOfRanks) {
  // SmolLM2-135M, Qwen2.5-0.5B, LLaMA 2 70B, and sizes that are no multiple of a unit.
  for (const ModelConfig& c : {config(9, 3, 1536, 49152), config(14, 2, 4864, 151936),
                               config(64, 8, 28672, 32000), config(5, 1, 170, 301)})
    for (size_t ranks = 1; ranks <= static_cast<size_t>(c.heads); ++ranks) {
      Shard last;
      for (size_t r = 0; r < ranks; ++r) {
        const Shard s = make_shard(c, r, ranks);
        EXPECT_EQ(s.heads.begin, r == 0 ? 0 : last.heads.end);
        EXPECT_EQ(s.columns.begin, r == 0 ? 0 : last.columns.end);
        EXPECT_EQ(s.vocab.begin, r == 0 ? 0 : last.vocab.end);
        EXPECT_GE(s.heads.size(), 1u);
        EXPECT_LE(s.heads.size(), static_cast<size_t>(c.heads) / ranks + 1);
        EXPECT_EQ(s.columns.begin % kColumnUnit, 0u);
        // Every query head finds its KV head on the rank.
        const RankShape shape(c, s);
        ASSERT_EQ(shape.queries.size(), s.kv_heads.size());
        for (size_t kv = 0; kv < shape.queries.size(); ++kv)
          for (size_t q = shape.queries[kv].begin; q < shape.queries[kv].end; ++q)
            EXPECT_EQ((s.heads.begin + q) / static_cast<size_t>(c.heads / c.kv_heads),
                      s.kv_heads.begin + kv);
        EXPECT_EQ(shape.queries.front().begin, 0u);
        EXPECT_EQ(shape.queries.back().end, s.heads.size());
        last = s;
      }
      EXPECT_EQ(last.heads.end, static_cast<size_t>(c.heads));
      EXPECT_EQ(last.columns.end, static_cast<size_t>(c.intermediate_size));
      EXPECT_EQ(last.vocab.end, static_cast<size_t>(c.vocab_size));
    }
}

TEST(Shard, TooManyRanksNameTheMost) {
  try {
    make_shard(config(9, 3, 1536, 100), 0, 10);
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_NE(std::string(e.what()).find("1 to 9"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace octet
