// Whole models with a screened head, for thousands of tokens: the same as with the exact one,
// however they are sampled.
#include <gtest/gtest.h>

#include "src/checkpoint/testing.h"
#include "src/engine/sampler.h"
#include "src/engine/step.h"

namespace octet {
namespace {

class ScreenedHeadTest : public testing::TestWithParam<const char*> {
 protected:
  static constexpr size_t kRows = 6, kContext = 256;

  // What kRows sequences generate side by side until the context is full.
  std::vector<std::vector<int32_t>> run(HeadMode mode, const std::vector<SamplingParams>& params) {
    Transformer model(folder_, team_, {.max_rows = 64, .head = mode});
    KvCache cache(model.config(), kRows * blocks_for(kContext), kernels::FloatType::kBF16);
    std::vector<std::vector<int32_t>> blocks(kRows);
    std::vector<Sampler> samplers;
    std::vector<int32_t> last;
    for (size_t s = 0; s < kRows; ++s) {
      EXPECT_TRUE(cache.allocate(blocks_for(kContext), blocks[s]));
      last.push_back(static_cast<int32_t>(100 + 17 * s));
      samplers.emplace_back(params[s], std::span(last).last(1), std::vector<int32_t>{2});
    }
    const size_t vocab = static_cast<size_t>(model.config().vocab_size);
    for (size_t position = 0; position < kContext; ++position) {
      Batch batch;
      for (size_t s = 0; s < kRows; ++s) {
        batch.add(std::span(last).subspan(s, 1), position, blocks[s].data(), 1);
        batch.logit_rows.push_back(s);
        batch.largest.push_back(samplers[s].wanted() > 0);
      }
      const std::span<float> logits = model.forward(batch, cache);
      for (size_t s = 0; s < kRows; ++s) {
        EXPECT_EQ(model.screened(s).has_value(),
                  mode == HeadMode::kScreened && samplers[s].wanted() > 0);
        const std::span<float> row = logits.subspan(s * vocab, vocab);
        last[s] = draw(samplers[s], model, s, row, nullptr).value();
      }
    }
    std::vector<std::vector<int32_t>> out;
    for (const Sampler& s : samplers) out.push_back(s.output());
    return out;
  }

  std::shared_ptr<const ModelFolder> folder_ =
      std::make_shared<ModelFolder>(fs::path(OCTET_SOURCE_DIR) / "models" / GetParam());
  ThreadTeam team_{2};
};

INSTANTIATE_TEST_SUITE_P(Models, ScreenedHeadTest,
                         testing::Values("llama3_tiny_bf16", "qwen2_tiny_fp16", "qwen3_tiny_bf16"));

TEST_P(ScreenedHeadTest, GivesTheSameTokens) {
  std::vector<SamplingParams> params(kRows);
  for (size_t s = 0; s < kRows; ++s) params[s].seed = static_cast<int64_t>(s);
  params[0].temperature = 0;
  params[1].top_k = 20;
  params[2].top_k = 20;
  params[2].top_p = 0.8;
  params[2].temperature = 1.5;
  params[2].repetition_penalty = 1.1;
  params[3].temperature = 0;
  params[3].repetition_penalty = 1.3;
  params[3].logit_bias = {{5, 10.0f}, {300, -100.0f}};
  params[3].bad_words = {{11}, {12, 13}};
  params[4].top_k = 0;  // of all logits, beside the others
  params[5].top_k = 5;
  params[5].min_p = 0.1;
  params[5].frequency_penalty = 1;
  params[5].min_tokens = 20;
  EXPECT_EQ(run(HeadMode::kExact, params), run(HeadMode::kScreened, params));
}

}  // namespace
}  // namespace octet
