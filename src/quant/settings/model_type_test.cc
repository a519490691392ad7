#include "src/quant/settings/model_type.h"

#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet {
namespace {

ModelConfig model(Family family) {
  ModelConfig c;
  c.family = family;
  c.layers = 7;
  return c;
}

TEST(ModelType, FromTheFamilyOrByName) {
  QuantizeOptions o;
  EXPECT_STREQ(find_model_type(model(Family::kLlama), o).name, "llama2");
  EXPECT_STREQ(find_model_type(model(Family::kQwen2), o).name, "qwen2");
  o.model_type = "llama3";
  EXPECT_STREQ(find_model_type(model(Family::kQwen2), o).name, "llama3");
  o.model_type = "gpt";
  EXPECT_THROW(find_model_type(model(Family::kLlama), o), Error);
}

TEST(FlexSmooth, WhatTheScriptsAskFor) {
  QuantizeOptions o;
  const FlexSmooth llama = flex_smooth(model(Family::kLlama), o);
  EXPECT_FALSE(llama.exponents);
  EXPECT_EQ(llama.o_kept_below, 7);
  EXPECT_EQ(flex_smooth(model(Family::kQwen2), o).exponents, std::pair(0.6f, 0.3f));
  o.model_type = "qwen3";
  o.layer_count = 2;
  EXPECT_EQ(flex_smooth(model(Family::kQwen2), o).exponents, std::pair(0.4f, 0.325f));
  EXPECT_EQ(flex_smooth(model(Family::kQwen2), o).o_kept_below, 2);
  o.flex = FlexSmooth{{{0.75f, 0.1f}}, 0, false};
  EXPECT_EQ(flex_smooth(model(Family::kQwen2), o).exponents, std::pair(0.75f, 0.1f));
  EXPECT_EQ(flex_smooth(model(Family::kQwen2), o).o_kept_below, 0);
}

}  // namespace
}  // namespace octet
