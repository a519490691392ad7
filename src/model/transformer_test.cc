// Float logits against a float32 forward of an independent implementation (the golden files), and
// the invariances of the step: chunked prefill, batching and page order change nothing, bit for
// bit.
#include "src/model/transformer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using tests::kGolden;

std::vector<std::vector<int32_t>> calib_tokens(const std::string& model) {
  const fs::path path = kGolden / model / "calib_tokens.json";
  return parse_json(read_text(path), path.string()).get<std::vector<std::vector<int32_t>>>();
}

class TransformerTest : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<const ModelFolder> folder_ =
      std::make_shared<ModelFolder>(kGolden / GetParam() / "model");
  ThreadTeam team_{2};
  Transformer model_{folder_, team_, {.max_rows = 64}};
  KvCache cache_{folder_->config(), 16, kernels::FloatType::kF32};

  std::vector<float> run(const Batch& batch) {
    const auto logits = model_.forward(batch, cache_);
    return {logits.begin(), logits.end()};
  }
};

INSTANTIATE_TEST_SUITE_P(Models, TransformerTest, testing::Values("llama_fp16", "qwen2_bf16"));

// The README of the golden files gives rtol 1e-4 for another matmul.
TEST_P(TransformerTest, LogitsMatchTheGoldenForward) {
  const SafetensorsFile file(kGolden / GetParam() / "fp32_logits_sample0.safetensors");
  const TensorView& golden = file.tensors()[0];
  const std::vector<float> expected = golden.floats();
  const std::vector<int32_t> tokens = calib_tokens(GetParam())[0];
  ASSERT_EQ(expected.size(), tokens.size() * 160);
  std::vector<int32_t> blocks;
  ASSERT_TRUE(cache_.allocate(1, blocks));
  Batch batch;
  batch.add(tokens, 0, blocks.data());
  for (size_t r = 0; r < tokens.size(); ++r) batch.logit_rows.push_back(r);
  const std::vector<float> got = run(batch);
  float largest = 0;
  for (float v : expected) largest = std::fmax(largest, std::fabs(v));
  for (size_t i = 0; i < expected.size(); ++i)
    ASSERT_NEAR(got[i], expected[i], 1e-4f * std::fabs(expected[i]) + 1e-5f * largest) << i;
}

TEST_P(TransformerTest, ChunksAndBatchesChangeNothing) {
  const auto samples = calib_tokens(GetParam());
  std::vector<int32_t> a = samples[4], b = samples[1];
  a.insert(a.end(), samples[7].begin(), samples[7].end());  // longer than one page
  ASSERT_GT(a.size(), kBlockTokens);
  std::vector<int32_t> blocks_a, blocks_b, scrambled = {11, 3};
  ASSERT_TRUE(cache_.allocate(2, blocks_a));
  ASSERT_TRUE(cache_.allocate(1, blocks_b));
  const auto last = [&](const std::vector<int32_t>& ids, const std::vector<int32_t>& blocks) {
    Batch batch;
    batch.add(ids, 0, blocks.data());
    batch.logit_rows = {ids.size() - 1};
    return run(batch);
  };
  const std::vector<float> alone_a = last(a, blocks_a), alone_b = last(b, blocks_b);
  EXPECT_EQ(last(a, scrambled), alone_a);

  // Prefill of a in three chunks; the last token decoded together with the whole of b.
  Batch first, second, third;
  first.add(std::span(a).first(5), 0, blocks_a.data());
  EXPECT_TRUE(run(first).empty());
  second.add(std::span(a).subspan(5, a.size() - 6), 5, blocks_a.data());
  run(second);
  third.add(b, 0, blocks_b.data());
  const size_t row = third.add(std::span(a).last(1), a.size() - 1, blocks_a.data());
  third.logit_rows = {b.size() - 1, row};
  const std::vector<float> both = run(third);
  const size_t vocab = alone_a.size();
  EXPECT_EQ(std::vector<float>(both.begin(), both.begin() + static_cast<ptrdiff_t>(vocab)),
            alone_b);
  EXPECT_EQ(std::vector<float>(both.begin() + static_cast<ptrdiff_t>(vocab), both.end()), alone_a);
}

TEST(KvCache, HandsOutEveryPageOnce) {
  ModelConfig c;
  c.layers = 2;
  c.kv_heads = 1;
  c.heads = 1;
  c.head_dim = 8;
  KvCache cache(c, 3, kernels::FloatType::kBF16);
  std::vector<int32_t> a, b;
  EXPECT_TRUE(cache.allocate(2, a));
  EXPECT_FALSE(cache.allocate(2, b));
  EXPECT_TRUE(b.empty());
  EXPECT_TRUE(cache.allocate(1, b));
  EXPECT_NE(a[0], a[1]);
  EXPECT_NE(a[0], b[0]);
  cache.release(a);
  EXPECT_TRUE(a.empty());
  EXPECT_EQ(cache.free_blocks(), 2u);
  EXPECT_EQ(KvCache::block_bytes(c, kernels::FloatType::kBF16), 2u * 2 * 8 * 32 * 2);
  EXPECT_EQ(KvCache::block_bytes(c, kernels::FloatType::kI8), 2u * 2 * 8 * 32);
}

}  // namespace
}  // namespace octet
