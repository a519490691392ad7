// The folder that the exporter writes, for a model of one layer with numbers that stand for
// themselves: names, types and shapes as docs/formats.md lists them, and the bytes as they are read
// back.
#include "src/quant/output/export.h"

#include <gmock/gmock.h>

#include <bit>
#include <numeric>

#include "src/base/error.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::TempFolder;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::UnorderedElementsAreArray;

// Two heads of two channels, one of keys and values; MLP of six; five words; q, k, v with a bias.
constexpr const char* kConfig = R"({
  "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 4,
  "intermediate_size": 6, "num_hidden_layers": 1, "num_attention_heads": 2,
  "num_key_value_heads": 1, "hidden_act": "silu", "rms_norm_eps": 1e-6, "vocab_size": 5,
  "max_position_embeddings": 16, "tie_word_embeddings": TIED, "torch_dtype": "DTYPE"})";

std::string replaced(std::string text, const std::string& what, const std::string& with) {
  return text.replace(text.find(what), what.size(), with);
}

std::vector<float> counted(size_t n, float from) {
  std::vector<float> v(n);
  std::iota(v.begin(), v.end(), from);
  return v;
}

constexpr const char* kDown = "model.layers.0.mlp.down_proj";
constexpr const char* kK = "model.layers.0.self_attn.k_proj";

// Small integers, which every float type holds.
FloatLayer float_layer(const ModelConfig& config) {
  FloatLayer layer;
  layer.norms[NormKind::kInput].weight = counted(4, 1);
  layer.norms[NormKind::kPostAttention].weight = counted(4, 5);
  for (const LayerLinear& l : layer_linears(config, 0)) {
    FloatWeight& w = layer.at(l.kind);
    w.shape = l.shape;
    w.w = counted(w.shape.n * w.shape.k, 1 + static_cast<float>(l.kind));
    if (w.shape.bias) w.bias = counted(w.shape.n, 3);
  }
  return layer;
}

// Levels 1, 2, 3, ...; scales 0.5, 1, 2, ... by row; an input scale of 0.25 with offset 2.
QuantizedLinear quantized(size_t n, size_t k) {
  RoundedWeight r;
  for (size_t i = 0; i < n * k; ++i) r.q.push_back(static_cast<int8_t>(i + 1));
  for (size_t j = 0; j < n; ++j) {
    r.scale.push_back(std::ldexp(0.5f, static_cast<int>(j)));
    r.offset.push_back(0);
    r.sum.push_back(std::accumulate(r.q.begin() + static_cast<ptrdiff_t>(j * k),
                                    r.q.begin() + static_cast<ptrdiff_t>((j + 1) * k), int64_t{0}));
  }
  return {r, {0.25f, 2}, {}};
}

std::string spec_of(const TensorView& t) {
  return t.name + " " + std::string(dtype_name(t.dtype)) + " " + shape_string(t.shape);
}

class Export : public ::testing::Test {
 protected:
  // Writes a model whose down_proj is of `type`, and whose head is of `head`.
  void write(Scheme type, Scheme head = Scheme::kFloat) {
    fs::remove_all(target_.path());
    fs::create_directory(target_.path());
    write_text(source_ / "config.json",
               replaced(replaced(kConfig, "DTYPE", dtype_), "TIED", tied_ ? "true" : "false"));
    SafetensorsWriter floats(source_.path(), {{"model.norm.weight", DType::kF32, {4}}}, {});
    floats.write("model.norm.weight", counted(4, 9));
    floats.finish();
    const ModelFolder source(source_.path());
    ExportContent content{source.config(), {{"lm_head", head}}, tool_};
    for (const LinearRow& row : linear_rows())
      content.types[layer_prefix(0) + row.name] = Scheme::kFloat;
    content.types[kDown] = type;
    if (settings_.quantize_kv_cache) content.types[kK] = type;
    content.tool.scheme = type;
    Exporter exporter(target_.path(), source, content, settings_);
    const auto rows = [](size_t first, size_t count) {
      return counted(4 * count, 4 * static_cast<float>(first));
    };
    exporter.write_embedding(rows);
    QuantizedLayer linears;
    linears.at(LinearKind::kDown) = quantized(4, 6);
    linears.at(LinearKind::kDown).corrected_bias = corrected_;
    if (settings_.quantize_kv_cache) {
      linears.kv = KvCacheScales{{0.5f, 0.25f}, {2, 4}};
      linears.at(LinearKind::kK) = quantized(2, 4);
      linears.at(LinearKind::kK).corrected_bias = corrected_k_;
    }
    exporter.write_layer(0, float_layer(source.config()), linears);
    exporter.write_final_norm({counted(4, 9), {}, 1e-6f});
    exporter.write_head(head == Scheme::kFloat ? QuantizedLinear{} : quantized(5, 4), rows);
    exporter.finish();
    store_ = std::make_unique<TensorStore>(target_.path());
    uint64_t bytes = 0;
    for (const TensorView* t : store_->all()) bytes += t->data.size();
    EXPECT_EQ(exporter.total_bytes(), bytes);
  }

  // The tensors of the output, of which those of the float model are as they always are.
  std::vector<std::string> specs() const {
    std::vector<std::string> all;
    for (const TensorView* t : store_->all()) all.push_back(spec_of(*t));
    return all;
  }
  std::vector<std::string> specs(const std::string& prefix) const {
    std::vector<std::string> some;
    for (const std::string& spec : specs())
      if (spec.starts_with(prefix)) some.push_back(spec.substr(prefix.size()));
    return some;
  }
  template <typename T>
  std::vector<T> values(const std::string& name) const {
    return store_->get(name).values<T>();
  }
  ordered_json json_of(const std::string& file) const {
    return parse_ordered_json(read_text(target_ / file), file);
  }
  std::vector<std::string> files() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(target_.path()))
      names.push_back(entry.path().filename().string());
    return names;
  }

  TempFolder source_{"export_source"}, target_{"export_target"};
  OutputSettings settings_;
  ToolMethod tool_;
  std::string dtype_ = "bfloat16";
  bool tied_ = false;
  std::vector<float> corrected_, corrected_k_;
  std::unique_ptr<TensorStore> store_;
};

TEST_F(Export, AllTensorsInTheOrderOfTheModules) {
  write(Scheme::kW8A8);
  EXPECT_THAT(specs(), ElementsAre("model.embed_tokens.weight BF16 [5, 4]",
                                   "model.layers.0.self_attn.q_proj.weight BF16 [4, 4]",
                                   "model.layers.0.self_attn.q_proj.bias BF16 [4]",
                                   "model.layers.0.self_attn.k_proj.weight BF16 [2, 4]",
                                   "model.layers.0.self_attn.k_proj.bias BF16 [2]",
                                   "model.layers.0.self_attn.v_proj.weight BF16 [2, 4]",
                                   "model.layers.0.self_attn.v_proj.bias BF16 [2]",
                                   "model.layers.0.self_attn.o_proj.weight BF16 [4, 4]",
                                   "model.layers.0.mlp.gate_proj.weight BF16 [6, 4]",
                                   "model.layers.0.mlp.up_proj.weight BF16 [6, 4]",
                                   "model.layers.0.mlp.down_proj.weight I8 [4, 6]",
                                   "model.layers.0.mlp.down_proj.input_scale BF16 [1]",
                                   "model.layers.0.mlp.down_proj.input_offset BF16 [1]",
                                   "model.layers.0.mlp.down_proj.quant_bias I32 [4]",
                                   "model.layers.0.mlp.down_proj.deq_scale F32 [4]",
                                   "model.layers.0.input_layernorm.weight BF16 [4]",
                                   "model.layers.0.post_attention_layernorm.weight BF16 [4]",
                                   "model.norm.weight BF16 [4]", "lm_head.weight BF16 [5, 4]"));
  EXPECT_THAT(files(), UnorderedElementsAreArray({"config.json", "quant_model_description.json",
                                                  "quant_model_weight_w8a8.safetensors"}));
  const ordered_json d = json_of("quant_model_description.json");
  EXPECT_EQ(d.at("model_quant_type"), "W8A8");
  EXPECT_EQ(d.size(), 2 + specs().size());  // version and type
  for (const std::string& spec : specs()) {
    const std::string name = spec.substr(0, spec.find(' '));
    EXPECT_EQ(d.at(name), name.starts_with(kDown) ? "W8A8" : "FLOAT") << name;
  }
  EXPECT_EQ(json_of("config.json").at("quantization_config"), d);
  EXPECT_EQ(json_of("config.json").at("quantize"), "w8a8");
}

TEST_F(Export, ValuesReadBack) {
  write(Scheme::kW8A8);
  EXPECT_EQ(store_->get("model.embed_tokens.weight").floats(), counted(20, 0));
  EXPECT_EQ(store_->get("lm_head.weight").floats(), counted(20, 0));
  EXPECT_EQ(store_->get("model.layers.0.self_attn.q_proj.weight").floats(), counted(16, 1));
  EXPECT_EQ(store_->get("model.layers.0.self_attn.v_proj.weight").floats(), counted(8, 3));
  EXPECT_EQ(store_->get("model.layers.0.self_attn.k_proj.bias").floats(), counted(2, 3));
  EXPECT_EQ(store_->get("model.layers.0.input_layernorm.weight").floats(), counted(4, 1));
  EXPECT_EQ(store_->get("model.layers.0.post_attention_layernorm.weight").floats(), counted(4, 5));
  EXPECT_EQ(store_->get("model.norm.weight").floats(), counted(4, 9));
  EXPECT_EQ(values<int8_t>(std::string(kDown) + ".weight"), quantized(4, 6).rounded->q);
}

// deq_scale = 0.25 * (0.5, 1, 2, 4); quant_bias = rne(bias / deq_scale) - 2 * row sum, where the
// rows of 1 to 24 have the sums 21, 57, 93, 129.
TEST_F(Export, StaticTensors) {
  const std::string down = kDown;
  write(Scheme::kW8A8);
  EXPECT_THAT(store_->get(down + ".input_scale").floats(), ElementsAre(0.25f));
  EXPECT_THAT(store_->get(down + ".input_offset").floats(), ElementsAre(2));
  EXPECT_THAT(values<float>(down + ".deq_scale"), ElementsAre(0.125f, 0.25f, 0.5f, 1));
  EXPECT_THAT(values<int32_t>(down + ".quant_bias"), ElementsAre(-42, -114, -186, -258));
  corrected_ = {1, 1, 1, -7};
  write(Scheme::kW8A8);
  EXPECT_THAT(values<int32_t>(down + ".quant_bias"), ElementsAre(-34, -110, -184, -265));
}

// 1e9 / 0.25 is more than 2^31.
TEST_F(Export, QuantBiasOutsideOf32BitsNamesItsLinear) {
  const std::string down = kDown;
  corrected_ = {1, 1e9f, 1, 1};
  try {
    write(Scheme::kW8A8);
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.tensor_name(), down + ".quant_bias");
    EXPECT_EQ(e.field_name(), "output 1");
    EXPECT_THAT(e.what(), HasSubstr("--disable_names " + down));
  }
}

// Of a float16 model: the bits of float32 as int32, sign-extended; 0.125 is 0x3e000000.
TEST_F(Export, DeqScaleOfAFloat16Model) {
  dtype_ = "float16";
  write(Scheme::kW8A8);
  EXPECT_THAT(specs(kDown),
              ElementsAre(".weight I8 [4, 6]", ".input_scale F16 [1]", ".input_offset F16 [1]",
                          ".quant_bias I32 [4]", ".deq_scale I64 [4]"));
  EXPECT_THAT(values<int64_t>(std::string(kDown) + ".deq_scale"),
              ElementsAre(0x3e000000, 0x3e800000, 0x3f000000, 0x3f800000));
}

TEST_F(Export, TheOtherTypes) {
  for (const auto& [type, name] :
       {std::pair(Scheme::kW8A8Dynamic, "w8a8_dynamic"), std::pair(Scheme::kW8A16, "w8a16")}) {
    SCOPED_TRACE(name);
    write(type);
    EXPECT_THAT(specs(kDown), ElementsAre(".weight I8 [4, 6]", ".weight_scale F32 [4, 1]",
                                          ".weight_offset F32 [4, 1]"));
    EXPECT_THAT(values<float>(std::string(kDown) + ".weight_scale"), ElementsAre(0.5f, 1, 2, 4));
    EXPECT_THAT(values<float>(std::string(kDown) + ".weight_offset"), ElementsAre(0, 0, 0, 0));
    EXPECT_TRUE(fs::exists(target_ / ("quant_model_weight_" + std::string(name) + ".safetensors")));
  }
  write(Scheme::kW8A8Mix);
  EXPECT_THAT(specs(kDown),
              ElementsAre(".weight I8 [4, 6]", ".weight_scale F32 [4, 1]",
                          ".weight_offset F32 [4, 1]", ".input_scale BF16 [1]",
                          ".input_offset BF16 [1]", ".quant_bias I32 [4]", ".deq_scale F32 [4]"));
  EXPECT_EQ(json_of("quant_model_description.json").at("model_quant_type"), "W8A8_MIX");
}

TEST_F(Export, Int8KvCacheBesideAQuantizedLinear) {
  settings_.quantize_kv_cache = true;
  write(Scheme::kW8A8);
  EXPECT_THAT(specs("model.layers.0.self_attn.k_proj"),
              ElementsAre(".kv_cache_scale F32 [2]", ".kv_cache_offset F32 [2]",
                          ".weight I8 [2, 4]", ".bias BF16 [2]", ".input_scale BF16 [1]",
                          ".input_offset BF16 [1]", ".quant_bias I32 [2]", ".deq_scale F32 [2]"));
  EXPECT_THAT(values<float>("model.layers.0.self_attn.k_proj.kv_cache_scale"),
              ElementsAre(0.5f, 0.25f));
  EXPECT_THAT(values<float>("model.layers.0.self_attn.v_proj.kv_cache_scale"), ElementsAre(2, 4));
  EXPECT_THAT(values<float>("model.layers.0.self_attn.v_proj.kv_cache_offset"), ElementsAre(0, 0));
  // bias (3, 4) / deq_scale (0.125, 0.25) less twice the row sums 10, 26.
  EXPECT_THAT(values<int32_t>("model.layers.0.self_attn.k_proj.quant_bias"), ElementsAre(4, -36));
  const ordered_json d = json_of("quant_model_description.json");
  for (const char* key : {"kv_cache_type", "kv_quant_type"}) EXPECT_EQ(d.at(key), "C8");
  EXPECT_EQ(d.at("model.layers.0.self_attn.v_proj.kv_cache_scale"), "C8");
  EXPECT_EQ(d.at("model.layers.0.self_attn.k_proj.bias"), "FLOAT");
}

// Per token the stored bias is what is computed with; static linears have that in quant_bias.
TEST_F(Export, ACorrectedBiasOfALinearThatHasOne) {
  settings_.quantize_kv_cache = true;  // which quantizes k_proj
  corrected_k_ = {5, 7};
  const std::string bias = std::string(kK) + ".bias";
  write(Scheme::kW8A8Dynamic);
  EXPECT_THAT(store_->get(bias).floats(), ElementsAre(5, 7));
  write(Scheme::kW8A8);
  EXPECT_THAT(store_->get(bias).floats(), ElementsAre(3, 4));
}

TEST_F(Export, ATiedHead) {
  tied_ = true;
  write(Scheme::kW8A8);
  EXPECT_TRUE(specs("lm_head").empty());
  EXPECT_EQ(json_of("quant_model_description.json").at("lm_head.weight"), "FLOAT");
  EXPECT_EQ(json_of("config.json").at("tie_word_embeddings"), true);
  write(Scheme::kW8A8, Scheme::kW8A8Dynamic);  // quantized, it is a tensor of its own
  EXPECT_THAT(specs("lm_head"), ElementsAre(".weight I8 [5, 4]", ".weight_scale F32 [5, 1]",
                                            ".weight_offset F32 [5, 1]"));
  EXPECT_EQ(json_of("config.json").at("tie_word_embeddings"), false);
}

TEST_F(Export, AsMsmodelslimWritesIt) {
  settings_.layout = Layout::kMsmodelslim;
  tool_.anti_method = AntiMethod::kM1;
  write(Scheme::kW8A8);
  EXPECT_THAT(specs(kDown),
              ElementsAre(".weight I8 [4, 6]", ".weight_scale F32 [4, 1]",
                          ".weight_offset F32 [4, 1]", ".input_scale F32 [1]",
                          ".input_offset F32 [1]", ".quant_bias I32 [4]", ".deq_scale F32 [4]"));
  EXPECT_THAT(specs("model.norm"), ElementsAre(".weight F32 [4]", ".bias F32 [4]"));
  EXPECT_THAT(values<float>("model.norm.bias"), ElementsAre(0, 0, 0, 0));
  EXPECT_FALSE(json_of("config.json").contains("quantization_config"));
  settings_.layout = Layout::kMindie;
  write(Scheme::kW8A8Mix);  // which this layout has no word for
  EXPECT_THAT(specs("model.norm"), ElementsAre(".weight F32 [4]", ".bias F32 [4]",
                                               ".module.weight F32 [4]", ".module.bias F32 [4]"));
  EXPECT_EQ(values<float>("model.norm.module.weight"), counted(4, 9));
  const ordered_json d = json_of("quant_model_description_w8a8.json");
  EXPECT_EQ(d.at("model.norm.module.weight"), "W8A8");
  EXPECT_EQ(d.at(std::string(kDown) + ".weight"), "W8A8");
  EXPECT_TRUE(json_of("config.json").at("quantization_config").at("pdmix"));
}

// A part ends before the tensor with which it would reach the size: 40 bytes of embedding, then
// q's weight (32) and bias (8), ...
TEST_F(Export, InParts) {
  settings_.part_bytes = 48;
  write(Scheme::kW8A8);
  const auto& parts = store_->files();
  ASSERT_GE(parts.size(), 3u);
  EXPECT_EQ(parts[0]->tensors().size(), 1u);
  EXPECT_EQ(parts[1]->tensors().size(), 2u);
  size_t tensors = 0;
  const ordered_json index = json_of("quant_model_weight_w8a8.safetensors.index.json");
  for (size_t i = 0; i < parts.size(); ++i) {
    uint64_t bytes = 0;
    for (const TensorView& t : parts[i]->tensors()) {
      bytes += t.data.size();
      EXPECT_EQ(index.at("weight_map").at(t.name), parts[i]->path().filename().string());
      ++tensors;
    }
    EXPECT_TRUE(bytes < 48 || parts[i]->tensors().size() == 1) << parts[i]->path();
    char name[80];
    std::snprintf(name, sizeof name, "quant_model_weight_w8a8-%05zu-of-%05zu.safetensors", i + 1,
                  parts.size());
    EXPECT_EQ(parts[i]->path().filename(), name);
  }
  EXPECT_EQ(index.at("weight_map").size(), tensors);
  const std::vector<std::string> in_parts = specs();
  const std::vector<float> embedding = store_->get("model.embed_tokens.weight").floats();
  settings_.part_bytes = 0;
  write(Scheme::kW8A8);
  EXPECT_EQ(specs(), in_parts);
  EXPECT_EQ(store_->get("model.embed_tokens.weight").floats(), embedding);
  EXPECT_EQ(store_->files().size(), 1u);
}

}  // namespace
}  // namespace octet
