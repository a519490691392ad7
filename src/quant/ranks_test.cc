// Quantizing on several ranks (threads here): the bytes of one rank.
#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"
#include "src/dist/testing.h"
#include "src/quant/layerwise/gptq.h"
#include "src/quant/quantizer.h"

namespace octet {
namespace {

using tests::kGolden;

struct RankCase {
  const char* name;
  const char* model;
  std::function<void(QuantizeOptions&)> change;
};
void PrintTo(const RankCase& c, std::ostream* out) { *out << c.name; }

const auto by_recipe = [](QuantizeOptions& o) { o.take_recipe(load_recipe("octet")); };

class QuantizeOnRanks : public ::testing::TestWithParam<RankCase> {
 protected:
  QuantizeOnRanks() : place_(std::string("quantize_ranks_") + GetParam().name) {
    const fs::path tokens = kGolden / GetParam().model / "calib_tokens.json";
    for (const auto& ids : parse_json(read_text(tokens), tokens.string()))
      data_.samples.push_back({ids.get<std::vector<int32_t>>()});
    options_.run.quiet = options_.run.overwrite = true;
    GetParam().change(options_);
  }

  // Every file but those with the time in them.
  std::map<std::string, std::string> files(size_t ranks) {
    const fs::path target = place_ / "out";
    tests::on_ranks(ranks, [&](Communicator& communicator) {
      quantize(kGolden / GetParam().model / "model", target, data_, options_, {}, &communicator);
    });
    std::map<std::string, std::string> all;
    for (const auto& entry : fs::directory_iterator(target))
      if (const std::string name = entry.path().filename().string();
          !name.starts_with("quantization_report"))
        all[name] = read_text(entry.path(), UINT64_MAX);
    return all;
  }

  tests::TempFolder place_;
  CalibrationData data_;
  QuantizeOptions options_;
};

TEST_P(QuantizeOnRanks, BytesAreThoseOfOneRank) {
  const auto want = files(1);
  for (size_t ranks : {2, 3}) {
    const auto got = files(ranks);
    ASSERT_EQ(got.size(), want.size());
    for (const auto& [name, bytes] : want) EXPECT_TRUE(got.at(name) == bytes) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Ways, QuantizeOnRanks,
                         ::testing::Values(RankCase{"recipe", "llama_fp16", by_recipe},
                                           RankCase{"qwen3", "qwen3_bf16", by_recipe},
                                           RankCase{"budgets", "qwen2_bf16",
                                                    [](QuantizeOptions& o) {
                                                      by_recipe(o);
                                                      o.layerwise()->get<ChooseTypes>() = {2, 4};
                                                    }},
                                           RankCase{"recipe_kv8", "qwen2_bf16",
                                                    [](QuantizeOptions& o) {
                                                      Recipe recipe = load_recipe("octet");
                                                      recipe.get<QuantizeKvCache>();
                                                      o.take_recipe(std::move(recipe));
                                                    }},
                                           RankCase{"m3_auto", "llama_fp16",
                                                    [](QuantizeOptions& o) {
                                                      o.tool().anti_method = AntiMethod::kM3;
                                                      o.tool().act_method = ActMethod::kAuto;
                                                      o.tool().disable_level = 3;
                                                    }},
                                           // Groups of int8 and of float linears side by side,
                                           // which recipes do not make.
                                           RankCase{"m6_tool", "qwen2_bf16",
                                                    [](QuantizeOptions& o) {
                                                      o.tool().anti_method = AntiMethod::kM6;
                                                      o.output.layout = Layout::kMsmodelslim;
                                                      o.tool().disable_level = 2;
                                                    }},
                                           RankCase{"mix_kv8", "llama_fp16",
                                                    [](QuantizeOptions& o) {
                                                      o.tool().scheme = Scheme::kW8A8Mix;
                                                      o.output.quantize_kv_cache = true;
                                                    }}),
                         [](const auto& c) { return std::string(c.param.name); });

TEST(GptqOnRanks, PlanAndRowsAreThoseOfOneRank) {
  // Several blocks of columns for every rank, none of them whole at the end.
  constexpr size_t kTokens = 700, k = 3 * 128 * 2 + 40, n = 75;
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  std::vector<float> x(kTokens * k), weight(kTokens), w(n * k);
  for (std::vector<float>* v : {&x, &w})
    for (float& value : *v) value = normal(random);
  for (float& value : weight) value = 0.5f + std::fabs(normal(random));
  RoundingPlan plans[4];
  RoundedWeight rounded[4];
  for (size_t ranks = 1; ranks <= 3; ++ranks)
    tests::on_ranks(ranks, [&](Communicator& c) {
      ThreadTeam team(2);
      RoundingPlan plan = plan_rounding({x.data(), k, kTokens, weight.data()}, 0.01, team, c);
      RoundedWeight r = round_weight_gptq(w, n, k, plan, team, c);
      if (c.rank() + 1 != ranks) return;  // the last one's
      plans[ranks] = std::move(plan);
      rounded[ranks] = std::move(r);
    });
  for (size_t ranks : {2, 3}) {
    EXPECT_EQ(plans[ranks].order, plans[1].order);
    for (size_t i = 0; i < k; ++i)
      for (size_t j = i + 1; j < k; ++j)
        ASSERT_EQ(plans[ranks].factor[i * k + j], plans[1].factor[i * k + j]) << i << " " << j;
    EXPECT_EQ(rounded[ranks].q, rounded[1].q);
    EXPECT_EQ(rounded[ranks].scale, rounded[1].scale);
    EXPECT_EQ(rounded[ranks].sum, rounded[1].sum);
  }
}

}  // namespace
}  // namespace octet
