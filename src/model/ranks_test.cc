// One model on several ranks (threads here): the logits of one rank. Folders of the real
// msModelSlim, every type of linear among them.
#include <gtest/gtest.h>

#include <cmath>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"
#include "src/dist/testing.h"
#include "src/model/transformer.h"

namespace octet {
namespace {

using tests::kGolden;

struct Case {
  const char* model;
  const char* output;  // "" for the float model
  bool exact;          // o and down are int8: nothing is rounded otherwise on several ranks
};

// Logits of three steps: a prompt in two chunks, the second with another prompt beside it, then a
// token of each.
std::vector<float> steps(Transformer& model, KvCache& cache) {
  std::vector<int32_t> a, b, blocks_a, blocks_b;
  for (int32_t i = 0; i < 40; ++i) a.push_back(3 + i * 7 % 150);
  for (int32_t i = 0; i < 9; ++i) b.push_back(5 + i * 11 % 150);
  EXPECT_TRUE(cache.allocate(2, blocks_a));
  EXPECT_TRUE(cache.allocate(1, blocks_b));
  std::vector<float> all;
  const auto run = [&](const Batch& batch) {
    const auto logits = model.forward(batch, cache);
    all.insert(all.end(), logits.begin(), logits.end());
  };
  Batch first, second, third;
  first.add(std::span(a).first(17), 0, blocks_a.data());
  run(first);  // no logits
  second.add(std::span(a).subspan(17, 21), 17, blocks_a.data());
  second.add(b, 0, blocks_b.data());
  second.logit_rows = {0, 20, 29};
  run(second);
  third.add(std::span(a).subspan(38, 2), 38, blocks_a.data(), 2);
  third.logit_rows = {1};
  run(third);
  return all;
}

class OnRanks : public ::testing::TestWithParam<Case> {
 protected:
  OnRanks() : place_(std::string("ranks_") + GetParam().model + GetParam().output) {
    const fs::path golden = kGolden / GetParam().model;
    if (*GetParam().output == '\0')
      fs::copy(golden / "model", place_.path(), fs::copy_options::recursive);
    else
      octet::tests::copy_quantized(golden, GetParam().output, place_);
    folder_ = std::make_shared<ModelFolder>(place_.path());
  }

  std::vector<float> logits(size_t ranks, size_t threads) {
    std::vector<float> result;
    octet::tests::on_ranks(ranks, [&](Communicator& communicator) {
      ThreadTeam team(threads);
      Transformer model(folder_, team,
                        {.max_rows = 64, .ranks = ranks == 1 ? nullptr : &communicator});
      KvCache cache(model.shape(), 8, kv_type(*folder_, kernels::FloatType::kF32));
      if (communicator.rank() != 0) return model.follow(cache);
      result = steps(model, cache);
      model.ping();
      model.release();
    });
    return result;
  }

  octet::tests::TempFolder place_;
  std::shared_ptr<const ModelFolder> folder_;
};

TEST_P(OnRanks, LogitsAreThoseOfOneRank) {
  const std::vector<float> want = logits(1, 2);
  float largest = 0;
  for (float v : want) largest = std::max(largest, std::fabs(v));
  for (size_t ranks = 2; ranks <= 3;
       ++ranks) {  // three query heads a group, and the MLP's 96 = 3 x 32
    const std::vector<float> got = logits(ranks, ranks == 2 ? 2 : 1);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < want.size(); ++i) {
      if (GetParam().exact)
        ASSERT_EQ(got[i], want[i]) << ranks << " ranks, " << i;
      else  // float32 sums in another order
        ASSERT_NEAR(got[i], want[i], 2e-6f * largest) << ranks << " ranks, " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, OnRanks,
    ::testing::Values(Case{"llama_fp16", "", false},
                      Case{"llama_fp16", "no_last_linear_rollback", true},
                      Case{"llama_fp16", "w8a8_dynamic", true}, Case{"llama_fp16", "pdmix", true},
                      Case{"llama_fp16", "kv8", true}, Case{"llama_fp16", "w8a16_asym", false},
                      Case{"qwen2_bf16", "minmax", true}, Case{"qwen2_bf16", "w8a8_dynamic", true},
                      Case{"qwen3_bf16", "", false}),
    [](const auto& c) {
      return std::string(c.param.model) + "_" + (*c.param.output ? c.param.output : "float");
    });

}  // namespace
}  // namespace octet
