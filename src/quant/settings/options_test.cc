#include "src/quant/settings/options.h"

#include <fmt/format.h>
#include <gmock/gmock.h>

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(FlagSpelling, OfMethodsAndLevels) {
  EXPECT_EQ(anti_method_name(AntiMethod::kNone), "");
  EXPECT_EQ(anti_method_name(AntiMethod::kM3), "m3");
  for (const AntiMethodRow& row : anti_method_rows()) EXPECT_EQ(&anti_method_row(row.method), &row);
  for (const char* name : {"", "m1", "m2", "m3", "m4", "m5", "m6"})
    EXPECT_EQ(anti_method_name(parse_anti_method(name).value()), name);
  EXPECT_FALSE(parse_anti_method("m7"));
  EXPECT_EQ(disable_level_name(12), "L12");
}

QuantizeOptions settled(DType model, const std::string& choose_types) {
  QuantizeOptions o;
  o.take_recipe(parse_recipe("steps:\n  - turn_norms\n" + choose_types, "r.yaml"));
  settle(o, model);
  return o;
}

std::optional<int64_t> budget_of(const QuantizeOptions& o) {
  return o.recipe->or_default<ChooseTypes>().dynamic_budget;
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
  EXPECT_FALSE(o.recipe->find<ChooseTypes>());
  EXPECT_THAT(o.notes, IsEmpty());
}

TEST(Settle, TypesThatScaleTokensAreNoted) {
  for (Scheme scheme : {Scheme::kW8A8, Scheme::kW8A16, Scheme::kW8A8Dynamic, Scheme::kW8A8Mix})
    for (const bool by_linear : {false, true}) {
      QuantizeOptions o;
      if (by_linear) {
        o.types = {{"a", Scheme::kFloat}, {"b", scheme}};
      } else {
        o.scheme = scheme;
      }
      settle(o, DType::kBF16);
      EXPECT_THAT(o.notes, IsEmpty());
      settle(o, DType::kF16);
      const bool noted = scheme == Scheme::kW8A8Dynamic || scheme == Scheme::kW8A8Mix;
      EXPECT_EQ(o.notes.size(), noted ? 1u : 0u) << scheme_name(scheme) << by_linear;
    }
}

TEST(HasStaticInput, TypesWithRanges) {
  EXPECT_TRUE(has_static_input(Scheme::kW8A8));
  EXPECT_TRUE(has_static_input(Scheme::kW8A8Mix));
  EXPECT_FALSE(has_static_input(Scheme::kW8A8Dynamic));
  EXPECT_FALSE(has_static_input(Scheme::kW8A16));
}

}  // namespace
}  // namespace octet
