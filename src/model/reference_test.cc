// Whole models against independent implementations: the tiny models against transformers
// (models/*/golden, expected.json), quantized folders of the real msModelSlim against a simulation
// of their formulas in torch (tools/w8a8_sim.py, tests/data/w8a8_logits_*).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"
#include "src/model/transformer.h"

namespace octet {
namespace {

using tests::kSources;

std::vector<int32_t> int32s(const TensorView& t) {
  t.expect(DType::kI32, {t.elements()});
  return t.values<int32_t>();
}

class Model {
 public:
  explicit Model(const fs::path& folder)
      : folder_(std::make_shared<ModelFolder>(folder)),
        team_(2),
        model_(folder_, team_, {.max_rows = 64}),
        cache_(folder_->config(), 8, kv_type(*folder_, kernels::FloatType::kF32)) {
    EXPECT_TRUE(cache_.allocate(8, blocks_));
  }
  // Logits [ids, vocab] of the sequence from `position` on; its last `generated` ids count as such.
  std::vector<float> logits(const std::vector<int32_t>& ids, size_t position = 0,
                            size_t generated = 0) {
    Batch batch;
    batch.add(ids, position, blocks_.data(), generated);
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
  fs::path folder_ = kSources / "models" / GetParam();
};
INSTANTIATE_TEST_SUITE_P(Models, TinyModel,
                         ::testing::Values("llama3_tiny_bf16", "qwen2_tiny_fp16",
                                           "qwen3_tiny_bf16"));

// What transformers computes (tensors promptN.ids and promptN.logits of `golden`). Float32 sums in
// another order: errors of a few 1e-6 of the largest logit after six layers.
void expect_golden(Model& model, const fs::path& golden) {
  const SafetensorsFile file(golden);
  std::map<std::string, const TensorView*> by_name;
  for (const TensorView& t : file.tensors()) by_name[t.name] = &t;
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

TEST_P(TinyModel, LogitsEqualTransformers) {
  Model model(folder_);
  expect_golden(model, folder_ / "golden/logits.safetensors");
}

// A loaded model lives from memory of its own: files that are cut short, or written over in place,
// change nothing.
TEST_P(TinyModel, WhatHappensToItsFilesChangesNothing) {
  const tests::TempFolder copy("model_copy");
  for (const auto& entry : fs::directory_iterator(folder_))
    if (entry.is_regular_file()) fs::copy(entry.path(), copy / entry.path().filename().string());
  Model model(copy.path());
  size_t cut = 0;
  for (const auto& entry : fs::directory_iterator(copy.path()))
    if (entry.path().extension() == ".safetensors") {
      fs::resize_file(entry.path(), cut++ % 2 == 0 ? 0 : 4096);
    }
  EXPECT_GT(cut, 0u);
  expect_golden(model, folder_ / "golden/logits.safetensors");
}

// tools/qwen3_golden.py: norms of queries and keys far from one, heads wider than hidden / heads.
TEST(Qwen3, LogitsEqualTransformers) {
  Model model(kSources / "tests/golden/qwen3_bf16/model");
  expect_golden(model, kSources / "tests/data/qwen3_logits.safetensors");
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

struct QuantizedCase {
  const char *model, *name;
  float tolerance;
};

class Quantized : public ::testing::TestWithParam<QuantizedCase> {
 protected:
  Quantized() {
    const QuantizedCase& c = GetParam();
    octet::tests::copy_quantized(kSources / "tests/golden" / c.model, c.name, dir_);
    const SafetensorsFile file(
        kSources / "tests/data" /
        (std::string("w8a8_logits_") + c.model + "_" + c.name + ".safetensors"));
    for (const TensorView& t : file.tensors()) {
      if (t.name == "tokens") tokens_ = int32s(t);
      if (t.name == "logits") want_ = t.floats();
    }
    prompt_ = tokens_.size() / 2;  // as in the simulation; only W8A8_MIX sees it
  }

  void expect_logits(const std::vector<float>& got) {
    ASSERT_EQ(want_.size(), got.size());
    for (size_t i = 0; i < want_.size(); ++i)
      ASSERT_NEAR(want_[i], got[i], GetParam().tolerance) << i;
  }

  const octet::tests::TempFolder dir_{std::string("quantized_") + GetParam().model + "_" +
                                      GetParam().name};
  std::vector<int32_t> tokens_;
  std::vector<float> want_;
  size_t prompt_ = 0;
};
// Noise of 1e-6 of a norm's output moves these logits by at most 1e-5; in m1 it also moves one
// activation over a rounding tie, which moves logits by up to 0.03 (measured in the simulation).
INSTANTIATE_TEST_SUITE_P(
    Cases, Quantized,
    ::testing::Values(
        QuantizedCase{"llama_fp16", "minmax", 1e-4f}, QuantizedCase{"llama_fp16", "m1", 0.05f},
        QuantizedCase{"llama_fp16", "no_last_linear_rollback", 1e-4f},
        QuantizedCase{"llama_fp16", "w8a8_dynamic", 1e-4f},
        QuantizedCase{"llama_fp16", "pdmix", 1e-4f}, QuantizedCase{"llama_fp16", "kv8", 1e-4f},
        QuantizedCase{"llama_fp16", "w8a16", 1e-4f},
        QuantizedCase{"llama_fp16", "w8a16_asym", 1e-4f},
        QuantizedCase{"qwen2_bf16", "minmax", 1e-4f}, QuantizedCase{"qwen2_bf16", "m1", 1e-4f},
        QuantizedCase{"qwen2_bf16", "w8a8_dynamic", 1e-4f}),
    [](const auto& c) { return std::string(c.param.model) + "_" + c.param.name; });

TEST_P(Quantized, LogitsEqualTheSimulation) {
  expect_logits(Model(dir_.path()).logits(tokens_, 0, tokens_.size() - prompt_));
}

// The prompt in two steps, then token by token.
TEST_P(Quantized, LogitsOfDecodingEqualTheSimulation) {
  Model model(dir_.path());
  const auto ids = [&](size_t begin, size_t end) {
    return std::vector<int32_t>(tokens_.begin() + static_cast<ptrdiff_t>(begin),
                                tokens_.begin() + static_cast<ptrdiff_t>(end));
  };
  std::vector<float> got = model.logits(ids(0, 2));
  const auto append = [&](const std::vector<float>& l) {
    got.insert(got.end(), l.begin(), l.end());
  };
  append(model.logits(ids(2, prompt_), 2));
  for (size_t i = prompt_; i < tokens_.size(); ++i) append(model.logits(ids(i, i + 1), i, 1));
  expect_logits(got);
}

// With scales so wide that nothing saturates, whole offsets move the stored numbers and nothing
// else.
TEST(Int8KvCache, OffsetsAreTakenOffAgain) {
  const auto logits = [](float k_offset, float v_offset) {
    const octet::tests::TempFolder dir("kv_offsets");
    octet::tests::copy_quantized(kSources / "tests/golden/llama_fp16", "kv8", dir);
    std::vector<TensorSpec> specs;
    {
      const TensorStore all(dir.path());
      for (const TensorView* t : all.all()) specs.push_back({t->name, t->dtype, t->shape});
      SafetensorsWriter writer(dir.path(), specs, {"changed", 0, false});
      for (const TensorView* t : all.all()) {
        std::vector<float> v;
        if (t->name.ends_with(".kv_cache_scale"))
          for (float s : t->floats()) v.push_back(2 * s);
        if (t->name.ends_with("k_proj.kv_cache_offset")) v.assign(t->elements(), k_offset);
        if (t->name.ends_with("v_proj.kv_cache_offset")) v.assign(t->elements(), v_offset);
        if (v.empty())
          writer.write(t->name, t->data);
        else
          writer.write(t->name, v);
      }
      writer.finish();
    }
    fs::remove(dir / "quant_model_weight_w8a8.safetensors");
    return Model(dir.path()).logits({5, 17, 3, 90, 41, 2, 7, 150, 33, 8});
  };
  const std::vector<float> want = logits(0, 0), got = logits(30, -25);
  for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(want[i], got[i], 1e-4f) << i;
}

}  // namespace
}  // namespace octet
