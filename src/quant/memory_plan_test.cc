#include "src/quant/memory_plan.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

ModelConfig ten_layers() {
  ModelConfig c;
  c.hidden_size = 1000;
  c.intermediate_size = 3000;
  c.layers = 10;
  c.heads = 10;
  c.kv_heads = 2;
  c.head_dim = 100;
  return c;
}

// docs/quantize.md, by hand: h = q = 1000, kv = 200, inter = 3064, weights = 1000 (2000 + 400 +
// 9192) = 11592000; 7 bytes of each stand, 4 more while floats run; 1024 rows of a step are 4 *
// 1024 * (2000 + 2000 + 400 + 6128).
TEST(MemoryPlan, OfTheToolsWay) {
  EXPECT_EQ(layer_memory(ten_layers(), nullptr, 1 << 20),
            7u * 11592000 + 4 * 11592000 + 4 * 1024 * 10528);
}

// A recipe holds the input of down on its grid and its Hessian while it rounds down, here more than
// what runs in float: 4 * 8192 * 3064 + 4 * 3064^2.
TEST(MemoryPlan, OfARecipe) {
  const Recipe recipe = parse_recipe("steps:\n  - round_weights: {method: gptq}\n", "r.yaml");
  EXPECT_EQ(layer_memory(ten_layers(), &recipe, 1 << 20),
            7u * 11592000 + 4u * 8192 * 3064 + 4u * 3064 * 3064 + 4 * 1024 * 10528);
}

TEST(MemoryPlan, WhatTheLimitLeaves) {
  EXPECT_EQ(activation_budget(1000, 13345, 1), 12345u);
  EXPECT_EQ(activation_budget(1000, 999, 1), 0u);
  EXPECT_GT(activation_budget(0, 0, 1), activation_budget(0, 0, 4));  // of what is free
}

}  // namespace
}  // namespace octet
