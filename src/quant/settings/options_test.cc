#include "src/quant/settings/options.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(TakeRecipe, ReplacesTheToolsWayUnlessItIsOne) {
  QuantizeOptions o;
  o.tool().scheme = Scheme::kW8A8Mix;
  o.take_recipe(
      parse_recipe("steps:\n  - msmodelslim: {anti_method: m4, act_method: 2, disable_level: 5}\n"
                   "  - quantize_kv_cache\n",
                   "r.yaml"));
  EXPECT_EQ(o.layerwise(), nullptr);
  EXPECT_EQ(o.tool().scheme, Scheme::kW8A8Mix);
  EXPECT_EQ(o.tool().anti_method, AntiMethod::kM4);
  EXPECT_EQ(o.tool().act_method, ActMethod::kHistogram);
  EXPECT_EQ(o.tool().disable_level, 5u);
  EXPECT_TRUE(o.output.quantize_kv_cache);
  EXPECT_TRUE(o.whole_recipe()->find<MsModelSlim>());
  o.take_recipe(parse_recipe("steps:\n  - turn_norms\n", "r.yaml"));
  EXPECT_TRUE(o.layerwise());
  EXPECT_FALSE(o.output.quantize_kv_cache);
  o.take_recipe(load_recipe("mindie"));  // and back
  EXPECT_EQ(o.layerwise(), nullptr);
  EXPECT_EQ(o.tool().scheme, Scheme::kW8A8);
}

TEST(TakeRecipe, WhatWasSaidBeforeStaysInFloat) {
  const Recipe recipe = parse_recipe(
      "steps:\n  - turn_norms\n  - keep_float: {names: [a, b], last_linear: false, "
      "model_type: qwen2, layer_count: 3}\n",
      "r.yaml");
  QuantizeOptions o;
  o.take_recipe(recipe);
  EXPECT_EQ(o.output.keep_float, (KeepFloat{{{"a", "b"}}, false, "qwen2", 3}));
  QuantizeOptions said;
  said.output.keep_float = {{{"c"}}, true, "llama3", 1};
  said.take_recipe(recipe);
  const KeepFloat want = {{{"c"}}, false, "llama3", 1};
  EXPECT_EQ(said.output.keep_float, want);
  EXPECT_EQ(said.whole_recipe()->or_default<KeepFloat>(), want);
}

TEST(Options, OfAPractice) {
  QuantizeOptions o;
  EXPECT_EQ(o.practice(), nullptr);
  EXPECT_FALSE(o.whole_recipe());
  o.tool().origin = PracticeYaml{"spec: 1"};
  EXPECT_EQ(o.practice()->text, "spec: 1");
  EXPECT_FALSE(o.whole_recipe());
}

QuantizeOptions settled(DType model, const std::string& choose_types) {
  QuantizeOptions o;
  o.take_recipe(parse_recipe("steps:\n  - turn_norms\n" + choose_types, "r.yaml"));
  settle(o, model);
  return o;
}

std::optional<int64_t> budget_of(const QuantizeOptions& o) {
  return o.layerwise()->or_default<ChooseTypes>().dynamic_budget;
}

TEST(Settle, ABudgetThatNobodyNamesIsNoneInFloat16) {
  EXPECT_FALSE(load_recipe("octet").or_default<ChooseTypes>().dynamic_budget);
  for (const char* step : {"", "  - choose_types\n"}) {
    for (DType model : {DType::kBF16, DType::kF32}) {
      const QuantizeOptions o = settled(model, step);
      EXPECT_EQ(budget_of(o), ChooseTypes::kWhereItPays);
      EXPECT_THAT(o.notes, IsEmpty());
    }
    const QuantizeOptions o = settled(DType::kF16, step);
    EXPECT_EQ(budget_of(o), 0);
    EXPECT_THAT(o.notes, ElementsAre(HasSubstr("--dynamic_budget N")));
  }
}

TEST(Settle, ANamedBudgetIsObeyed) {
  for (const int64_t budget : {-1, 0, 3}) {
    const std::string step = fmt::format("  - choose_types: {{dynamic_budget: {}}}\n", budget);
    EXPECT_THAT(settled(DType::kBF16, step).notes, IsEmpty());
    const QuantizeOptions o = settled(DType::kF16, step);
    EXPECT_EQ(budget_of(o), budget);
    if (budget == 0) {
      EXPECT_THAT(o.notes, IsEmpty());
    } else {
      EXPECT_THAT(o.notes, ElementsAre(HasSubstr("vLLM-Ascend does not")));
    }
  }
}

TEST(Settle, TheToolsWayHasNoBudget) {
  QuantizeOptions o;
  o.take_recipe(load_recipe("mindie"));
  settle(o, DType::kF16);
  EXPECT_EQ(o.layerwise(), nullptr);
  EXPECT_FALSE(o.whole_recipe()->find<ChooseTypes>());
  EXPECT_THAT(o.notes, IsEmpty());
}

TEST(Settle, TypesThatScaleTokensAreNoted) {
  for (Scheme scheme : {Scheme::kW8A8, Scheme::kW8A16, Scheme::kW8A8Dynamic, Scheme::kW8A8Mix})
    for (const bool by_linear : {false, true}) {
      QuantizeOptions o;
      if (by_linear) {
        o.tool().types = {{"a", Scheme::kFloat}, {"b", scheme}};
      } else {
        o.tool().scheme = scheme;
      }
      settle(o, DType::kBF16);
      EXPECT_THAT(o.notes, IsEmpty());
      settle(o, DType::kF16);
      const bool noted = scheme == Scheme::kW8A8Dynamic || scheme == Scheme::kW8A8Mix;
      EXPECT_EQ(o.notes.size(), noted ? 1u : 0u) << scheme_name(scheme) << by_linear;
    }
}

}  // namespace
}  // namespace octet
