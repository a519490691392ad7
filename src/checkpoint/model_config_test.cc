#include "src/checkpoint/model_config.h"

#include <gmock/gmock.h>

#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::message_of;
using octet::tests::TempFolder;
using ::testing::HasSubstr;

ordered_json llama() {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"hidden_size", 64},
          {"intermediate_size", 96},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"vocab_size", 160},
          {"max_position_embeddings", 256},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 500000.0},
          {"hidden_act", "silu"},
          {"torch_dtype", "float16"},
          {"eos_token_id", {2, 7}}};
}

TEST(ModelConfig, ReadsLlama) {
  const ModelConfig c = ModelConfig::parse(llama(), "config.json");
  EXPECT_EQ(c.family, Family::kLlama);
  EXPECT_EQ(c.head_dim, 16);
  EXPECT_EQ(c.q_size(), 64);
  EXPECT_EQ(c.kv_size(), 32);
  EXPECT_FALSE(c.qkv_bias);
  EXPECT_EQ(c.dtype, DType::kF16);
  EXPECT_EQ(c.eos_token_ids, (std::vector<int64_t>{2, 7}));
}

TEST(ModelConfig, ReadsQwen2WithBiases) {
  ordered_json j = llama();
  j["architectures"] = {"Qwen2ForCausalLM"};
  j["model_type"] = "qwen2";
  j["torch_dtype"] = "bfloat16";
  j["tie_word_embeddings"] = true;
  const ModelConfig c = ModelConfig::parse(j, "config.json");
  EXPECT_EQ(c.family, Family::kQwen2);
  EXPECT_TRUE(c.qkv_bias);
  EXPECT_TRUE(c.tie_word_embeddings);
  EXPECT_EQ(c.dtype, DType::kBF16);
}

// Its class has a head_dim of 128 where config.json names none, and biases of attention only.
TEST(ModelConfig, ReadsQwen3) {
  ordered_json j = llama();
  j["architectures"] = {"Qwen3ForCausalLM"};
  j["model_type"] = "qwen3";
  j.erase("head_dim");
  j["mlp_bias"] = true;
  const ModelConfig c = ModelConfig::parse(j, "config.json");
  EXPECT_EQ(c.family, Family::kQwen3);
  EXPECT_EQ(c.head_dim, 128);
  EXPECT_FALSE(c.qkv_bias || c.o_bias || c.mlp_bias);
  j["attention_bias"] = true;
  j["head_dim"] = 16;
  const ModelConfig biased = ModelConfig::parse(j, "config.json");
  EXPECT_EQ(biased.head_dim, 16);
  EXPECT_TRUE(biased.qkv_bias && biased.o_bias);
}

TEST(ModelConfig, BiasesThatTheClassesHave) {
  ordered_json j = llama();
  j["attention_bias"] = true;
  const ModelConfig attention = ModelConfig::parse(j, "config.json");
  EXPECT_TRUE(attention.qkv_bias && attention.o_bias);
  EXPECT_FALSE(attention.mlp_bias);
  j["mlp_bias"] = true;
  EXPECT_TRUE(ModelConfig::parse(j, "config.json").mlp_bias);
  j["architectures"] = {"Qwen2ForCausalLM"};  // which know neither key
  j["model_type"] = "qwen2";
  const ModelConfig qwen = ModelConfig::parse(j, "config.json");
  EXPECT_TRUE(qwen.qkv_bias);
  EXPECT_FALSE(qwen.o_bias || qwen.mlp_bias);
}

TEST(ModelConfig, ReadsLlama3RopeScaling) {
  ordered_json j = llama();
  j["rope_scaling"] = {{"rope_type", "llama3"},
                       {"factor", 8.0},
                       {"low_freq_factor", 1.0},
                       {"high_freq_factor", 4.0},
                       {"original_max_position_embeddings", 8192}};
  const ModelConfig c = ModelConfig::parse(j, "config.json");
  ASSERT_TRUE(c.rope_scaling);
  EXPECT_EQ(c.rope_scaling->factor, 8);
  EXPECT_EQ(c.rope_scaling->original_max_position, 8192);
  // transformers 5 writes one object for both.
  ordered_json five = llama();
  five.erase("rope_theta");
  five["rope_parameters"] = j["rope_scaling"];
  five["rope_parameters"]["rope_theta"] = 250000.0;
  const ModelConfig c5 = ModelConfig::parse(five, "config.json");
  EXPECT_EQ(c5.rope_theta, 250000);
  ASSERT_TRUE(c5.rope_scaling);
  EXPECT_EQ(c5.rope_scaling->factor, 8);
  j["rope_scaling"] = {{"rope_type", "yarn"}, {"factor", 4.0}};
  EXPECT_THAT(message_of([&] { ModelConfig::parse(j, "config.json"); }), HasSubstr("yarn"));
}

struct Bad {
  const char* key;
  ordered_json value;
};

TEST(ModelConfig, BadValuesAreRefusedByField) {
  const std::vector<Bad> bad = {{"hidden_size", 0},
                                {"hidden_size", -64},
                                {"hidden_size", "64"},
                                {"hidden_size", 1e30},
                                {"num_hidden_layers", 0},
                                {"num_hidden_layers", 1000000000},
                                {"num_attention_heads", 0},
                                {"num_key_value_heads", 3},
                                {"vocab_size", 0},
                                {"vocab_size", 4611686018427387904},
                                {"head_dim", 15},
                                {"rope_theta", 0},
                                {"rms_norm_eps", -5},
                                {"rms_norm_eps", 0},
                                {"intermediate_size", 131072},
                                {"hidden_act", "gelu"},
                                {"torch_dtype", "int8"},
                                {"rope_scaling", 3}};
  for (const Bad& b : bad) {
    ordered_json j = llama();
    j[b.key] = b.value;
    EXPECT_THAT(message_of([&] { ModelConfig::parse(j, "config.json"); }), HasSubstr(b.key))
        << b.value;
  }
  for (const char* key : {"hidden_size", "num_hidden_layers", "vocab_size"}) {
    ordered_json j = llama();
    j.erase(key);
    EXPECT_THAT(message_of([&] { ModelConfig::parse(j, "config.json"); }), HasSubstr(key));
  }
}

TEST(ModelConfig, NullIsAsGoodAsAbsent) {
  for (const char* key : {"architectures", "num_key_value_heads", "max_position_embeddings",
                          "rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters",
                          "tie_word_embeddings", "attention_bias", "mlp_bias", "hidden_act",
                          "head_dim", "torch_dtype", "eos_token_id", "use_sliding_window"}) {
    ordered_json null = llama(), absent = llama();
    null[key] = nullptr;
    absent.erase(key);
    const ModelConfig a = ModelConfig::parse(null, "config.json");
    const ModelConfig b = ModelConfig::parse(absent, "config.json");
    EXPECT_EQ(a.dtype, b.dtype) << key;
    EXPECT_EQ(a.max_position, b.max_position) << key;
    EXPECT_EQ(a.eos_token_ids, b.eos_token_ids) << key;
    EXPECT_EQ(a.kv_heads, b.kv_heads) << key;
  }
}

// The fields as transformers' Qwen2Config reads them: no window without use_sliding_window, 4096
// where sliding_window is absent, full attention below max_window_layers (28 where absent).
TEST(ModelConfig, SlidingWindows) {
  ordered_json j = llama();  // 3 layers, context 256
  j["architectures"] = {"Qwen2ForCausalLM"};
  j["model_type"] = "qwen2";
  j["use_sliding_window"] = true;
  j["sliding_window"] = 64;
  const auto expect_full = [&](const char* why) {
    EXPECT_NO_THROW(ModelConfig::parse(j, "config.json")) << why;
  };
  const auto expect_refused = [&](const char* layers) {
    EXPECT_THAT(message_of([&] { ModelConfig::parse(j, "config.json"); }),
                ::testing::AllOf(HasSubstr("use_sliding_window"), HasSubstr(layers)));
  };
  expect_full("28 layers without a window");
  j["max_window_layers"] = 3;
  expect_full("no layer is left for windows");
  j["max_window_layers"] = 2;
  expect_refused("1 of 3 layers");
  j["layer_types"] = {"full_attention", "full_attention", "full_attention"};
  expect_full("layer_types says so");
  j["layer_types"] = {"full_attention", "sliding_attention", "sliding_attention"};
  expect_refused("2 of 3 layers");
  j["sliding_window"] = 256;
  expect_full("the window holds the context");
  j["sliding_window"] = nullptr;
  expect_full("no window");
  j["sliding_window"] = 255;
  expect_refused("2 of 3 layers");
  j["use_sliding_window"] = false;
  expect_full("not used");
}

// transformers' LlamaForCausalLM has no windows and reads none of these fields.
TEST(ModelConfig, WindowsOfAFamilyWithout) {
  ordered_json j = llama();
  j["use_sliding_window"] = true;
  j["sliding_window"] = 64;
  j["max_window_layers"] = 0;
  EXPECT_NO_THROW(ModelConfig::parse(j, "config.json"));
  j.erase("use_sliding_window");  // as in Mistral's, which the other two fields are of
  EXPECT_NO_THROW(ModelConfig::parse(j, "config.json"));
}

TEST(ModelConfig, OtherArchitecturesAreRefusedByName) {
  ordered_json j = llama();
  j["architectures"] = {"MixtralForCausalLM"};
  j["model_type"] = "mixtral";
  EXPECT_THAT(message_of([&] { ModelConfig::parse(j, "config.json"); }), HasSubstr("ixtral"));
}

TEST(ModelConfig, FoldersWithoutOrWithBrokenConfig) {
  const TempFolder dir("config");
  EXPECT_THAT(message_of([&] { ModelConfig::load(dir.path()); }), HasSubstr("config.json"));
  write_text(dir / "config.json", "{\"hidden_size\": ");
  EXPECT_THAT(message_of([&] { ModelConfig::load(dir.path()); }), HasSubstr("config.json"));
  write_text(dir / "config.json", std::string(10000, '['));
  EXPECT_THAT(message_of([&] { ModelConfig::load(dir.path()); }), HasSubstr("config.json"));
  EXPECT_THAT(message_of([&] { ModelConfig::load(dir / "none"); }), HasSubstr("none"));
  fs::remove(dir / "config.json");
  fs::create_directories(dir / "snapshots");
  EXPECT_THAT(message_of([&] { ModelConfig::load(dir.path()); }),
              HasSubstr("inside its snapshots"));
  fs::create_symlink("../../blobs/0a1b", dir / "config.json");
  EXPECT_THAT(message_of([&] { ModelConfig::load(dir.path()); }), HasSubstr("blobs/0a1b"));
}

TEST(ModelConfig, TheOldNameOfQuantizationConfig) {
  ordered_json j = llama();
  j["quantization_config"] = nullptr;
  j["compression_config"] = {{"quant_method", "compressed-tensors"}};
  const ModelConfig c = ModelConfig::parse(j, "config.json");
  EXPECT_EQ(c.raw["quantization_config"], j["compression_config"]);
  EXPECT_FALSE(c.raw.contains("compression_config"));
}

TEST(GenerationConfig, ReadsDefaults) {
  const TempFolder dir("generation");
  EXPECT_FALSE(GenerationConfig::load(dir.path()).temperature);
  write_text(dir / "generation_config.json",
             R"({"temperature": 0.7, "top_k": 20, "top_p": 0.8, "eos_token_id": [1, 2]})");
  const GenerationConfig g = GenerationConfig::load(dir.path());
  EXPECT_EQ(g.temperature, 0.7);
  EXPECT_EQ(g.top_k, 20);
  EXPECT_EQ(g.eos_token_ids, (std::vector<int64_t>{1, 2}));
}

TEST(GenerationConfig, ALinkToNothingIsNotAbsent) {
  const TempFolder dir("generation_link");
  fs::create_symlink("../../blobs/0a1b", dir / "generation_config.json");
  EXPECT_THAT(message_of([&] { GenerationConfig::load(dir.path()); }),
              ::testing::AllOf(HasSubstr("generation_config.json"), HasSubstr("blobs/0a1b")));
}

TEST(GenerationConfig, WholeNumbersMayBeWrittenAsFloats) {
  const TempFolder dir("generation_floats");
  write_text(dir / "generation_config.json",
             R"({"temperature": 1, "top_k": 50.0, "max_new_tokens": 1e3, "eos_token_id": [2.0]})");
  const GenerationConfig g = GenerationConfig::load(dir.path());
  EXPECT_EQ(g.top_k, 50);
  EXPECT_EQ(g.max_new_tokens, 1000);
  EXPECT_EQ(g.eos_token_ids, std::vector<int64_t>{2});
  for (const char* bad : {R"({"top_k": 50.5})", R"({"top_k": 1e30})", R"({"top_k": "50"})"}) {
    write_text(dir / "generation_config.json", bad);
    EXPECT_THAT(message_of([&] { GenerationConfig::load(dir.path()); }), HasSubstr("top_k")) << bad;
  }
}

TEST(GenerationConfig, NullIsAsGoodAsAbsent) {
  const TempFolder dir("generation_null");
  write_text(dir / "generation_config.json",
             R"({"temperature": null, "top_k": null, "top_p": null, "eos_token_id": null})");
  const GenerationConfig g = GenerationConfig::load(dir.path());
  EXPECT_FALSE(g.temperature || g.top_k || g.top_p);
  EXPECT_TRUE(g.eos_token_ids.empty());
}

}  // namespace
}  // namespace octet
