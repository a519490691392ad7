// Decibels at every linear of quantized folders of the real msModelSlim, against a simulation in
// torch (testdata/eval.json).
#include "src/eval/layer_noise.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "src/base/decibels.h"
#include "src/checkpoint/testing.h"
#include "src/eval/eval.h"

namespace octet {
namespace {

using tests::kSources;

class Noise : public ::testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Cases, Noise, ::testing::Values("minmax", "m1", "w8a8_dynamic", "w8a16"));

// An activation on a rounding tie may fall either way when sums are in another order, which moves a
// linear with noise by some hundredths of a decibel. What differs by float32's rounding only, 120
// dB or more, counts as equal.
TEST_P(Noise, EqualsTheSimulation) {
  const json golden = parse_json(read_text(kSources / "src/eval/testdata/eval.json"), "eval.json")
                          .at("noise")
                          .at(GetParam());
  const auto ids = golden.at("tokens").get<std::vector<int32_t>>();
  const fs::path base = kSources / "tests/golden/llama_fp16";
  octet::tests::TempFolder dir(std::string("noise_") + GetParam());
  octet::tests::copy_quantized(base, GetParam(), dir);

  ThreadTeam team(2);
  Transformer reference(std::make_shared<ModelFolder>(base / "model"), team,
                        {.max_rows = Scorer::kChunk});
  Transformer model(std::make_shared<ModelFolder>(dir.path()), team, {.max_rows = Scorer::kChunk});
  LayerNoise noise({&reference, &model});
  Scorer a(reference, ids.size()), b(model, ids.size());
  for (size_t begin = 0; begin < ids.size(); begin += Scorer::kChunk) {
    const auto part = std::span(ids).subspan(begin, std::min(Scorer::kChunk, ids.size() - begin));
    a.next(part);
    b.next(part);
  }
  const std::vector<LinearNoise> found = noise.of(1);
  const json& linears = golden.at("linears");
  ASSERT_EQ(found.size(), linears.size());
  for (const LinearNoise& f : found) {
    const auto it = std::find_if(linears.begin(), linears.end(),
                                 [&](const json& l) { return l.at("name") == f.name; });
    ASSERT_NE(it, linears.end()) << f.name;
    const auto same = [&](const char* key, std::optional<double> value) {
      ASSERT_EQ(value.has_value(), it->contains(key)) << f.name << " " << key;
      if (!value) return;
      EXPECT_NEAR(std::min(*value, 120.0), std::min(it->at(key).get<double>(), 120.0), 0.1)
          << f.name << " " << key;
    };
    same("rounding", f.rounding);
    same("input", f.input);
    same("output", f.output);
  }

  // What runs after that no longer counts.
  noise.stop();
  a.rewind(0);
  b.rewind(0);
  a.next(std::span(ids).first(1));
  b.next(std::span(ids).first(2));
  EXPECT_EQ(noise.of(1)[3].output, found[3].output);
}

TEST(Decibels, AtTheEnds) {
  EXPECT_FALSE(decibels(0, 1));
  EXPECT_EQ(decibels(1, 0), kExact);
  EXPECT_NEAR(*decibels(100, 1), 20, 1e-12);
}

}  // namespace
}  // namespace octet
