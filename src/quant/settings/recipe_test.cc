#include "src/quant/settings/recipe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

std::string error_of(const std::string& yaml) {
  try {
    parse_recipe(yaml, "r.yaml");
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  return "no error";
}

TEST(Recipe, ShippedOnesComeBackFromWhatIsWritten) {
  for (const char* name : {"octet", "octet-fast", "mindie"}) {
    const Recipe r = load_recipe(name);
    EXPECT_EQ(r.name, name);
    EXPECT_EQ(to_yaml(parse_recipe(to_yaml(r), "again")), to_yaml(r));
  }
  EXPECT_TRUE(load_recipe("octet").gptq_damping());
  EXPECT_FALSE(load_recipe("octet-fast").gptq_damping());
}

TEST(Recipe, StepsSetWhatTheyName) {
  const Recipe r = parse_recipe(
      "recipe: mine\nsteps:\n  - rotate_residual: {seed: 7}\n  - equalize_values\n"
      "  - choose_types: {float_budget: 3, dynamic_budget: 2}\n  - find_ranges: {method: minmax}\n"
      "  - round_weights: {method: nearest}\n",
      "r.yaml");
  EXPECT_EQ(r.name, "mine");
  ASSERT_EQ(r.steps.size(), 5u);
  EXPECT_EQ(r.find<RotateResidual>()->seed, 7u);
  EXPECT_FALSE(r.find<RotateValues>());
  EXPECT_EQ(r.find<EqualizeValues>()->margin, 1.0);
  EXPECT_FALSE(r.find<EqualizeMlp>());
  EXPECT_EQ(r.find<ChooseTypes>()->float_budget, 3);
  EXPECT_EQ(r.find<ChooseTypes>()->dynamic_budget, 2);
  EXPECT_EQ(r.find<FindRanges>()->fit.method, RangeMethod::kMinMax);
  EXPECT_EQ(r.find<FindRanges>()->fit.margin, 1.0);
  EXPECT_EQ(r.find<RoundWeights>()->method, Rounding::kNearest);
  EXPECT_FALSE(r.gptq_damping());
}

TEST(Recipe, ABudgetIsNamedOrNot) {
  const auto budget = [](const char* step) {
    const Recipe r = parse_recipe(std::string("steps:\n  - ") + step + "\n", "r.yaml");
    EXPECT_EQ(to_yaml(parse_recipe(to_yaml(r), "again")), to_yaml(r));
    return r.find<ChooseTypes>()->dynamic_budget;
  };
  EXPECT_EQ(budget("choose_types"), std::nullopt);
  EXPECT_EQ(budget("choose_types: {dynamic_budget: -1}"), ChooseTypes::kWhereItPays);
  EXPECT_EQ(budget("choose_types: {dynamic_budget: 0}"), 0);
  EXPECT_THAT(error_of("steps:\n  - choose_types: {dynamic_budget: -2}\n"),
              HasSubstr("choose_types.dynamic_budget"));
}

TEST(Recipe, StepsAreAddedOrChangedByKind) {
  Recipe r = parse_recipe("steps:\n  - choose_types: {float_budget: 3}\n", "r.yaml");
  r.get<ChooseTypes>().dynamic_budget = 5;
  EXPECT_EQ(r.get<FindRanges>().fit.method, RangeMethod::kSearch);
  EXPECT_EQ(to_yaml(r),
            "recipe: unnamed\nsteps:\n  - choose_types: {float_budget: 3, dynamic_budget: 5}\n"
            "  - find_ranges: {method: search, quantile: 0.9999, margin: 1}\n");
}

TEST(Recipe, TheToolsWayIsAStepByItself) {
  const Recipe r = load_recipe("mindie");
  EXPECT_EQ(r.find<MsModelSlim>()->anti_method, AntiMethod::kM3);
  EXPECT_EQ(r.find<MsModelSlim>()->act_method, 3);
  EXPECT_EQ(r.find<MsModelSlim>()->disable_level, 5);
  EXPECT_NO_THROW(parse_recipe("steps: [msmodelslim, quantize_kv_cache]", "r.yaml"));
  EXPECT_THAT(error_of("steps: [turn_norms, msmodelslim]"), HasSubstr("turn_norms"));
  EXPECT_THAT(error_of("steps:\n  - msmodelslim: {anti_method: m7}\n"), HasSubstr("m1, m2"));
}

TEST(Recipe, AnyNameComesBack) {
  for (const char* name : {"plain", "a: b", "- x", "# not", "\"quoted\"", "true"}) {
    Recipe r;
    r.name = name;
    EXPECT_EQ(parse_recipe(to_yaml(r), "again").name, name);
  }
}

TEST(Recipe, RefusesWithLineAndField) {
  EXPECT_THAT(error_of("recipe: a\nstep: []\nsteps: []\n"), HasSubstr("r.yaml, line 2"));
  EXPECT_THAT(error_of("steps: [\n"), HasSubstr("r.yaml, line 2"));
  EXPECT_THAT(error_of("recipe: a\n"), HasSubstr("no list of steps"));
  EXPECT_THAT(error_of("steps:\n  - find_ranges\n  - turn: {}\n"), HasSubstr("line 3"));
  EXPECT_THAT(error_of("steps:\n  - turn: {}\n"), HasSubstr("rotate_residual"));
  EXPECT_THAT(error_of("steps:\n  - equalize_values: {margin: 20}\n"),
              HasSubstr("equalize_values.margin"));
  EXPECT_THAT(error_of("steps:\n  - equalize_values: {margin: high}\n"), HasSubstr("high"));
  EXPECT_EQ(error_of("steps:\n  - turn_norms\n  - rotate_residual: {sed: 1}\n"),
            "r.yaml, line 3: an unknown field; field rotate_residual.sed; expected seed");
  EXPECT_EQ(error_of("steps:\n  - equalize_mlp:\n      margin: 1\n      noise: 1\n"),
            "r.yaml, line 4: an unknown field; field equalize_mlp.noise; expected copies, margin, "
            "spread, weight_noise");
  EXPECT_THAT(error_of("steps:\n  - turn_norms: {seed: 1}\n"),
              HasSubstr("field turn_norms.seed; expected no field"));
  EXPECT_THAT(error_of("steps:\n  - equalize_values:\n      margin: high\n"),
              HasSubstr("r.yaml, line 3"));
  EXPECT_THAT(error_of("steps:\n  - find_ranges: 7\n"), HasSubstr("r.yaml, line 2"));
  EXPECT_THAT(error_of("steps:\n  - find_ranges: {method: magic}\n"),
              HasSubstr("search, quantile, minmax"));
  EXPECT_THAT(error_of("steps:\n  - find_ranges\n  - find_ranges\n"), HasSubstr("twice"));
  EXPECT_THAT(error_of("steps:\n  - [1, 2]\n"), HasSubstr("no name"));
  for (const char* name : {"no/such/recipe.yaml", "."}) EXPECT_THROW(load_recipe(name), Error);
}

}  // namespace
}  // namespace octet
