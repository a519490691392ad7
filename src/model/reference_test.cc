// Whole models against independent implementations: the tiny models against transformers
// (models/*/golden, expected.json), W8A8 folders of the real msModelSlim against a simulation of
// the integer formula in torch (tools/w8a8_sim.py, tests/data/w8a8_logits_*).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"
#include "src/model/transformer.h"

namespace octet {
namespace {

const fs::path kRoot = OCTET_SOURCE_DIR;

std::vector<int32_t> int32s(const TensorView& t) {
  std::vector<int32_t> v(t.elements());
  t.expect(DType::kI32, {v.size()});
  std::memcpy(v.data(), t.data.data(), t.data.size());
  return v;
}

class Model {
 public:
  explicit Model(const fs::path& folder)
      : folder_(std::make_shared<ModelFolder>(folder)),
        team_(2),
        model_(folder_, team_, 64),
        cache_(folder_->config(), 8, kernels::FloatType::kF32) {
    EXPECT_TRUE(cache_.allocate(8, blocks_));
  }
  // Logits [ids, vocab] of the sequence from `position` on.
  std::vector<float> logits(const std::vector<int32_t>& ids, size_t position = 0) {
    Batch batch;
    batch.add(ids, position, blocks_.data());
    for (size_t r = 0; r < ids.size(); ++r) batch.logit_rows.push_back(r);
    const auto l = model_.forward(batch, cache_);
    return {l.begin(), l.end()};
  }
  size_t vocab() const { return static_cast<size_t>(model_.config().vocab_size); }

 private:
  std::shared_ptr<const ModelFolder> folder_;
  ThreadTeam team_;
  Transformer model_;
  KvCache cache_;
  std::vector<int32_t> blocks_;
};

class TinyModel : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path folder_ = kRoot / "models" / GetParam();
};
INSTANTIATE_TEST_SUITE_P(Models, TinyModel,
                         ::testing::Values("llama3_tiny_bf16", "qwen2_tiny_fp16"));

// Float32 sums in another order: errors of a few 1e-6 of the largest logit after six layers.
TEST_P(TinyModel, LogitsEqualTransformers) {
  Model model(folder_);
  const SafetensorsFile golden(folder_ / "golden/logits.safetensors");
  std::map<std::string, const TensorView*> by_name;
  for (const TensorView& t : golden.tensors()) by_name[t.name] = &t;
  for (const std::string prompt : {"prompt0", "prompt1"}) {
    const std::vector<float> want = by_name.at(prompt + ".logits")->floats();
    const std::vector<float> got = model.logits(int32s(*by_name.at(prompt + ".ids")));
    ASSERT_EQ(want.size(), got.size());
    float largest = 0;
    for (float v : want) largest = std::fmax(largest, std::fabs(v));
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(want[i], got[i], 2e-5f * largest) << prompt << " " << i;
  }
}

// The likeliest token, 32 times, for ten prompts. The smallest gap between the two likeliest along
// these paths is 2e-4; the logits' errors are below that (see above).
TEST_P(TinyModel, GreedyTokensEqualTransformers) {
  Model model(folder_);
  const fs::path file = folder_ / "expected.json";
  const json expected = parse_json(read_text(file), file.string());
  for (const json& g : expected.at("greedy")) {
    const auto prompt = g.at("prompt_ids").get<std::vector<int32_t>>();
    const auto want = g.at("ids").get<std::vector<int32_t>>();
    std::vector<float> logits = model.logits(prompt);
    std::vector<int32_t> got;
    for (size_t position = prompt.size(); got.size() < want.size(); ++position) {
      const auto last = logits.end() - static_cast<ptrdiff_t>(model.vocab());
      got.push_back(static_cast<int32_t>(std::max_element(last, logits.end()) - last));
      logits = model.logits({got.back()}, position);
    }
    EXPECT_EQ(got, want) << g.at("prompt");
  }
}

struct W8A8Case {
  const char *model, *name;
  float tolerance;
};

class W8A8 : public ::testing::TestWithParam<W8A8Case> {};
// Noise of 1e-6 of a norm's output moves these logits by at most 1e-5; in m1 it also moves one
// activation over a rounding tie, which moves logits by up to 0.03 (measured in the simulation).
INSTANTIATE_TEST_SUITE_P(
    Cases, W8A8,
    ::testing::Values(W8A8Case{"llama_fp16", "minmax", 1e-4f}, W8A8Case{"llama_fp16", "m1", 0.05f},
                      W8A8Case{"llama_fp16", "no_last_linear_rollback", 1e-4f},
                      W8A8Case{"qwen2_bf16", "minmax", 1e-4f}, W8A8Case{"qwen2_bf16", "m1", 1e-4f}),
    [](const auto& c) { return std::string(c.param.model) + "_" + c.param.name; });

TEST_P(W8A8, LogitsEqualTheIntegerFormula) {
  const W8A8Case& c = GetParam();
  const fs::path golden = kRoot / "tests/golden" / c.model;
  const octet::testing::TempFolder dir(std::string("w8a8_") + c.model + "_" + c.name);
  fs::copy_file(golden / "model/config.json", dir / "config.json");
  for (const char* name : {"quant_model_description.json", "quant_model_weight_w8a8.safetensors"})
    fs::copy_file(golden / (std::string("out_") + c.name) / name, dir / name);
  const SafetensorsFile file(
      kRoot / "tests/data" /
      (std::string("w8a8_logits_") + c.model + "_" + c.name + ".safetensors"));
  std::map<std::string, const TensorView*> by_name;
  for (const TensorView& t : file.tensors()) by_name[t.name] = &t;
  Model model(dir.path());
  const std::vector<float> got = model.logits(int32s(*by_name.at("tokens")));
  const std::vector<float> want = by_name.at("logits")->floats();
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(want[i], got[i], c.tolerance) << i;
}

}  // namespace
}  // namespace octet
