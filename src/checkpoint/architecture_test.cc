#include "src/checkpoint/architecture.h"

#include <gtest/gtest.h>

#include "src/checkpoint/model_config.h"

namespace octet {
namespace {

ModelConfig config(Family family) {
  ModelConfig c;
  c.family = family;
  c.hidden_size = 8;
  c.intermediate_size = 12;
  c.layers = 2;
  c.heads = 4;
  c.kv_heads = 2;
  c.head_dim = 3;
  c.vocab_size = 20;
  c.qkv_bias = architecture(family).qkv_bias;
  return c;
}

std::string words(const LinearShape& s) {
  return std::to_string(s.n) + "x" + std::to_string(s.k) + (s.bias ? "+bias" : "");
}

// The tensors of transformers' classes.
TEST(Architecture, LinearsOfALayer) {
  std::string all;
  for (const LayerLinear& l : layer_linears(config(Family::kQwen2), 1))
    all += l.full_name + " " + words(l.shape) + "\n";
  EXPECT_EQ(all,
            "model.layers.1.self_attn.q_proj 12x8+bias\n"
            "model.layers.1.self_attn.k_proj 6x8+bias\n"
            "model.layers.1.self_attn.v_proj 6x8+bias\n"
            "model.layers.1.self_attn.o_proj 8x12\n"
            "model.layers.1.mlp.gate_proj 12x8\n"
            "model.layers.1.mlp.up_proj 12x8\n"
            "model.layers.1.mlp.down_proj 8x12\n");
}

TEST(Architecture, NormsOfALayer) {
  std::string all;
  for (const LayerNorm& n : layer_norms(config(Family::kLlama), 0))
    all += n.full_name + " " + std::to_string(n.count) + "\n";
  EXPECT_EQ(all,
            "model.layers.0.input_layernorm 8\n"
            "model.layers.0.post_attention_layernorm 8\n");
}

// Qwen3 normalizes queries and keys head by head.
TEST(Architecture, NormsOfHeads) {
  std::string all;
  for (const LayerNorm& n : layer_norms(config(Family::kQwen3), 1))
    all += n.full_name + " " + std::to_string(n.count) + "\n";
  EXPECT_EQ(all,
            "model.layers.1.input_layernorm 8\n"
            "model.layers.1.post_attention_layernorm 8\n"
            "model.layers.1.self_attn.q_norm 3\n"
            "model.layers.1.self_attn.k_norm 3\n");
}

TEST(Architecture, LinearsOfAModelEndWithTheHead) {
  const std::vector<NamedLinear> all = linears_of(config(Family::kLlama));
  ASSERT_EQ(all.size(), 15u);
  EXPECT_EQ(all[0].name, "model.layers.0.self_attn.q_proj");
  EXPECT_EQ(all[14].name, "lm_head");
  EXPECT_EQ(words(all[14].shape), "20x8");
}

TEST(Architecture, PartsAndTheirSources) {
  EXPECT_EQ(
      linear_names(3, LayerPart::kGateUp),
      (std::vector<std::string>{"model.layers.3.mlp.gate_proj", "model.layers.3.mlp.up_proj"}));
  EXPECT_EQ(source_name(3, LayerPart::kQkv), "model.layers.3.input_layernorm");
  EXPECT_EQ(source_name(3, LayerPart::kO), "model.layers.3.self_attn.v_proj");
  EXPECT_EQ(source_name(3, LayerPart::kGateUp), "model.layers.3.post_attention_layernorm");
  EXPECT_EQ(source_name(3, LayerPart::kDown), "model.layers.3.mlp.up_proj");
}

TEST(Architecture, RowsStandWhereTheirKindsSay) {
  for (size_t i = 0; i < kLinearKinds; ++i)
    EXPECT_EQ(static_cast<size_t>(linear_rows()[i].kind), i);
  for (size_t i = 0; i < kNormKinds; ++i) EXPECT_EQ(static_cast<size_t>(norm_rows()[i].kind), i);
  for (size_t i = 0; i < kLayerParts; ++i) EXPECT_EQ(static_cast<size_t>(part_rows()[i].part), i);
}

TEST(Architecture, Names) {
  EXPECT_EQ(layer_of("model.layers.12.mlp.up_proj.weight"), 12);
  EXPECT_FALSE(layer_of("model.norm.weight"));
  for (const char* none :
       {"model.layers.x.mlp.up_proj", "model.layers.-1.mlp.up_proj", "model.layers..mlp.up_proj",
        "model.layers.3", "model.layers.3x.mlp", "model.layers.99999999999999999999.mlp.up_proj"})
    EXPECT_FALSE(layer_of(none)) << none;
  ASSERT_NE(find_linear_row("model.layers.12.mlp.up_proj"), nullptr);
  EXPECT_STREQ(short_name(*find_linear_row("model.layers.12.mlp.up_proj")), "up_proj");
  EXPECT_EQ(find_linear_row("lm_head"), nullptr);
  EXPECT_EQ(find_linear_row("model.layers.1.input_layernorm"), nullptr);
  EXPECT_EQ(find_architecture("gpt2"), nullptr);
  for (const Architecture& a : architectures()) {
    EXPECT_EQ(find_architecture(a.model_type), &a);
    EXPECT_EQ(&architecture(a.family), &a);
    EXPECT_NE(model_types().find(a.model_type), std::string::npos);
  }
}

}  // namespace
}  // namespace octet
