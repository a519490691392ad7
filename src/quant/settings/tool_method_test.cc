#include "src/quant/settings/tool_method.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(FlagSpelling, OfMethodsAndLevels) {
  EXPECT_EQ(anti_method_name(AntiMethod::kNone), "");
  EXPECT_EQ(anti_method_name(AntiMethod::kM3), "m3");
  for (const AntiMethodRow& row : anti_method_rows()) EXPECT_EQ(&anti_method_row(row.method), &row);
  for (const char* name : {"", "m1", "m2", "m3", "m4", "m5", "m6"})
    EXPECT_EQ(anti_method_name(parse_anti_method(name).value()), name);
  EXPECT_FALSE(parse_anti_method("m7"));
  EXPECT_EQ(disable_level_name(12), "L12");
}

TEST(ToolMethod, WhatItsTypesAskFor) {
  const auto of = [](Scheme scheme, bool by_linear) {
    ToolMethod m;
    if (by_linear)
      m.types = {{"a", Scheme::kFloat}, {"b", scheme}};
    else
      m.scheme = scheme;
    return m;
  };
  for (bool by_linear : {false, true}) {
    EXPECT_TRUE(has_static_ranges(of(Scheme::kW8A8, by_linear)));
    EXPECT_TRUE(has_static_ranges(of(Scheme::kW8A8Mix, by_linear)));
    EXPECT_FALSE(has_static_ranges(of(Scheme::kW8A8Dynamic, by_linear)));
    EXPECT_FALSE(has_static_ranges(of(Scheme::kW8A16, by_linear)));
    EXPECT_FALSE(may_scale_per_token(of(Scheme::kW8A8, by_linear)));
    EXPECT_TRUE(may_scale_per_token(of(Scheme::kW8A8Mix, by_linear)));
    EXPECT_TRUE(may_scale_per_token(of(Scheme::kW8A8Dynamic, by_linear)));
    EXPECT_FALSE(may_scale_per_token(of(Scheme::kW8A16, by_linear)));
  }
}

TEST(ToolMethod, WhatItLearns) {
  ToolMethod m;
  EXPECT_FALSE(needs_scores(m));
  EXPECT_FALSE(learns_from_outliers(m));
  m.disable_level = 1;
  EXPECT_TRUE(needs_scores(m));
  m = ToolMethod{};
  m.act_method = ActMethod::kAuto;
  EXPECT_TRUE(needs_scores(m));
  m.scheme = Scheme::kW8A8Dynamic;  // has no ranges to choose an observer for
  EXPECT_FALSE(needs_scores(m));
  m = ToolMethod{};
  m.anti_method = AntiMethod::kM1;
  EXPECT_TRUE(learns_from_outliers(m));
  m = ToolMethod{};
  m.disable_threshold = 0.5;
  EXPECT_TRUE(learns_from_outliers(m));
}

TEST(SmoothScope, TakesPartsByKindAndName) {
  SmoothScope scope;
  scope.from_v = false;
  scope.sources = {{"*"}, {"*layers.1.*"}};
  EXPECT_TRUE(scope.takes("model.layers.0.input_layernorm", LayerPart::kQkv));
  EXPECT_FALSE(scope.takes("model.layers.1.input_layernorm", LayerPart::kQkv));
  EXPECT_FALSE(scope.takes("model.layers.0.self_attn.v_proj", LayerPart::kO));
  EXPECT_TRUE(scope.takes("model.layers.0.mlp.up_proj", LayerPart::kDown));
}

}  // namespace
}  // namespace octet
