#include "src/quant/settings/model_type.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet {
namespace {

ModelConfig seven_layers(Family family) {
  ModelConfig c;
  c.family = family;
  c.layers = 7;
  return c;
}

TEST(ModelType, FromTheFamilyOrByName) {
  EXPECT_STREQ(find_model_type(seven_layers(Family::kLlama), "").name, "llama2");
  EXPECT_STREQ(find_model_type(seven_layers(Family::kQwen2), "").name, "qwen2");
  EXPECT_STREQ(find_model_type(seven_layers(Family::kQwen2), "llama3").name, "llama3");
  EXPECT_THROW(find_model_type(seven_layers(Family::kLlama), "gpt"), Error);
}

TEST(FlexSmooth, WhatTheScriptsAskFor) {
  ToolMethod tool;
  KeepFloat keep;
  const FlexSmooth llama = flex_smooth(seven_layers(Family::kLlama), tool, keep);
  EXPECT_FALSE(llama.exponents);
  EXPECT_EQ(llama.o_kept_below, 7);
  const ModelConfig qwen = seven_layers(Family::kQwen2);
  EXPECT_EQ(flex_smooth(qwen, tool, keep).exponents, std::pair(0.6f, 0.3f));
  keep.model_type = "qwen3";
  keep.layer_count = 2;
  EXPECT_EQ(flex_smooth(qwen, tool, keep).exponents, std::pair(0.4f, 0.325f));
  EXPECT_EQ(flex_smooth(qwen, tool, keep).o_kept_below, 2);
  tool.flex = FlexSmooth{{{0.75f, 0.1f}}, 0, false};
  EXPECT_EQ(flex_smooth(qwen, tool, keep).exponents, std::pair(0.75f, 0.1f));
  EXPECT_EQ(flex_smooth(qwen, tool, keep).o_kept_below, 0);
}

}  // namespace
}  // namespace octet
