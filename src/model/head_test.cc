// The head of whole models: rows that are screened beside rows that are not, and what a tied head
// holds for the embedding.
#include "src/model/head.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "src/checkpoint/testing.h"
#include "src/model/transformer.h"

namespace octet {
namespace {

const fs::path kModels = fs::path(OCTET_SOURCE_DIR) / "models";

class HeadTest : public testing::TestWithParam<const char*> {
 protected:
  static constexpr size_t kRows = 9;

  // Logits of kRows tokens at once; `largest` as in Batch.
  std::vector<float> run(Transformer& model, const std::vector<bool>& largest) {
    KvCache cache(model.config(), 2, kernels::FloatType::kF32);
    std::vector<int32_t> blocks, ids;
    EXPECT_TRUE(cache.allocate(1, blocks));
    for (size_t i = 0; i < kRows; ++i) ids.push_back(static_cast<int32_t>(41 * i + 5));
    Batch batch;
    batch.add(ids, 0, blocks.data());
    for (size_t i = 0; i < kRows; ++i) batch.logit_rows.push_back(i);
    batch.largest = largest;
    const auto logits = model.forward(batch, cache);
    return {logits.begin(), logits.end()};
  }

  std::shared_ptr<const ModelFolder> folder_ = std::make_shared<ModelFolder>(kModels / GetParam());
  ThreadTeam team_{2};
};

INSTANTIATE_TEST_SUITE_P(Models, HeadTest,
                         testing::Values("llama3_tiny_bf16", "qwen2_tiny_fp16", "qwen3_tiny_bf16"));

TEST_P(HeadTest, ScreenedRowsBesideOthers) {
  Transformer exact(folder_, team_, {.max_rows = 64});
  Transformer screened(folder_, team_, {.max_rows = 64, .head = HeadMode::kScreened});
  const std::vector<float> want = run(exact, std::vector<bool>(kRows, true));
  const size_t vocab = want.size() / kRows;
  for (size_t i = 0; i < kRows; ++i) EXPECT_FALSE(exact.screened(i));
  std::vector<bool> none, all(kRows, true),
      some = {true, true, false, true, false, false, true, true, false};
  for (const std::vector<bool>& largest : {none, all, some}) {
    const std::vector<float> got = run(screened, largest);
    for (size_t r = 0; r < kRows; ++r) {
      const auto row = got.begin() + static_cast<ptrdiff_t>(r * vocab);
      const auto logits = want.begin() + static_cast<ptrdiff_t>(r * vocab);
      const auto behind = screened.screened(r);
      ASSERT_EQ(behind.has_value(), !largest.empty() && largest[r]);
      if (!behind) {
        EXPECT_TRUE(std::equal(row, row + static_cast<ptrdiff_t>(vocab), logits)) << r;
        continue;
      }
      std::vector<float> group(ExactLogits::group_size());
      for (size_t j = 0; j < vocab; ++j) {
        ASSERT_GE(row[static_cast<ptrdiff_t>(j)], logits[static_cast<ptrdiff_t>(j)]);
        if (j % group.size() == 0) behind->compute(j / group.size(), group.data());
        ASSERT_EQ(group[j % group.size()], logits[static_cast<ptrdiff_t>(j)]) << j;
      }
    }
  }
}

TEST_P(HeadTest, ATiedHeadIsTheTableOfEmbeddings) {
  Head head(*folder_, make_shard(folder_->config(), 0, 1), HeadMode::kExact, team_);
  ASSERT_EQ(head.has_embedding(), folder_->config().tie_word_embeddings);
  if (!head.has_embedding()) return;
  const TensorView& table = folder_->tensors().get(kEmbeddingWeight);
  const size_t hidden = static_cast<size_t>(folder_->config().hidden_size);
  const std::vector<float> want = table.floats();
  std::vector<float> row(hidden);
  for (size_t token = 0; token < table.shape[0]; ++token) {
    head.embedding(token, row.data());
    ASSERT_EQ(0, std::memcmp(row.data(), want.data() + token * hidden, hidden * sizeof(float)));
  }
}

TEST_P(HeadTest, ScreeningReadsHalf) {
  const Shard shard = make_shard(folder_->config(), 0, 1);
  const Head exact(*folder_, shard, HeadMode::kExact, team_);
  const Head screened(*folder_, shard, HeadMode::kScreened, team_);
  // 16 bits a weight become 8 and four numbers a row.
  EXPECT_LT(screened.bytes(), exact.bytes() / 2 + exact.bytes() / 20);
}

}  // namespace
}  // namespace octet
