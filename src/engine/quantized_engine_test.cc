// The engine on checkpoints whose arithmetic depends on what a token is (W8A8_MIX) or that quantize
// the KV cache (C8): company, chunks and preemption change no token there either.
#include "src/checkpoint/testing.h"
#include "src/engine/testing.h"

namespace octet {
namespace {

using tests::Collector;
using tests::EngineTest;

struct Folder {
  Folder(const std::string& name, bool int8_kv) : dir("engine_" + name) {
    tests::copy_quantized(tests::kLlama, name, dir);
    if (!int8_kv) return;
    // The scales of int8 pages beside a checkpoint of another type: files of the same float model.
    const fs::path description = dir / "quant_model_description.json";
    ordered_json entries = parse_ordered_json(read_text(description), description.string());
    entries["kv_cache_type"] = entries["kv_quant_type"] = "C8";
    write_text(description, entries.dump());
    const TensorStore all(tests::kLlama / "out_kv8");
    std::vector<TensorSpec> specs;
    for (const TensorView* t : all.all())
      if (t->name.find(".kv_cache_") != std::string::npos)
        specs.push_back({t->name, t->dtype, t->shape});
    SafetensorsWriter writer(dir.path(), specs, {"kv_cache", 0, false});
    for (const TensorSpec& s : specs) writer.write(s.name, all.get(s.name).data);
    writer.finish();
  }
  tests::TempFolder dir;
};

struct Case {
  const char* name;
  bool int8_kv;
};

class QuantizedEngineTest : public ::testing::WithParamInterface<Case>,
                            private Folder,  // before the engine's fixture, which opens it
                            public EngineTest {
 protected:
  QuantizedEngineTest() : Folder(GetParam().name, GetParam().int8_kv), EngineTest(dir.path()) {}

  // Prompts of one page and of several steps, with 20 tokens to generate.
  std::vector<std::vector<int32_t>> some_prompts() const {
    std::vector<std::vector<int32_t>> out(prompts_.begin(), prompts_.begin() + 4);
    std::vector<int32_t> longer;
    for (const auto& p : prompts_) longer.insert(longer.end(), p.begin(), p.end());
    longer.resize(std::min<size_t>(longer.size(), 90));
    out.push_back(longer);
    std::reverse(longer.begin(), longer.end());
    out.push_back(longer);
    return out;
  }
  static constexpr size_t kTokens = 20;
};

INSTANTIATE_TEST_SUITE_P(Types, QuantizedEngineTest,
                         ::testing::Values(Case{"pdmix", false}, Case{"kv8", false},
                                           Case{"pdmix", true}, Case{"w8a8_dynamic", false},
                                           Case{"w8a16_asym", false}),
                         [](const auto& c) {
                           return std::string(c.param.name) + (c.param.int8_kv ? "_kv8" : "");
                         });

TEST_P(QuantizedEngineTest, CompanyAndChunksChangeNothing) {
  start();
  std::vector<std::shared_ptr<Collector>> together;
  for (const auto& prompt : some_prompts()) together.push_back(submit(prompt, greedy(kTokens)));
  std::vector<std::vector<int32_t>> got;
  for (const auto& sink : together) got.push_back(sink->wait().tokens);
  expect_idle();  // the model is the engine's while it works
  for (size_t i = 0; i < got.size(); ++i)
    EXPECT_EQ(got[i], argmax_loop(some_prompts()[i], kTokens)) << i;
  EXPECT_EQ(engine_->stats().preemptions, 0u);
}

TEST_P(QuantizedEngineTest, PreemptionChangesNoToken) {
  start(4);
  std::vector<std::shared_ptr<Collector>> together;
  for (size_t i = 0; i < 5; ++i) together.push_back(submit(prompts_[i], greedy(40)));
  std::vector<std::vector<int32_t>> got;
  for (const auto& sink : together) got.push_back(sink->wait().tokens);
  expect_idle();
  EXPECT_GT(engine_->stats().preemptions, 0u);
  for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i], argmax_loop(prompts_[i], 40)) << i;
}

}  // namespace
}  // namespace octet
