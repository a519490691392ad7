#include "src/quant/settings/practice.h"

#include <gmock/gmock.h>

#include "src/base/error.h"

namespace octet {
namespace {

using ::testing::HasSubstr;

ModelConfig two_layers() {
  ModelConfig c;
  c.layers = 2;
  return c;
}

constexpr const char* kWeight =
    "weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}";

// A practice with these processors (each an entry of a YAML list, flow style).
std::string practice(const std::string& processors, const std::string& more = "") {
  return "apiversion: modelslim_v1\nspec:\n  process: [" + processors + "]\n" + more;
}
std::string linear(const std::string& act, const std::string& more = "") {
  return "{type: linear_quant, qconfig: {" + (act.empty() ? "" : "act: {" + act + "}, ") + kWeight +
         "}" + more + "}";
}
const std::string kStatic = "scope: per_tensor, dtype: int8, symmetric: False, method: minmax";
const std::string kToken = "scope: per_token, dtype: int8, symmetric: True, method: minmax";

Practice parse(const std::string& yaml) { return parse_practice(yaml, "p.yaml", two_layers()); }

void expect_refused(const std::string& yaml, const std::vector<std::string>& parts) {
  try {
    parse(yaml);
    ADD_FAILURE() << "no error: " << yaml;
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    for (const std::string& part : parts) EXPECT_THAT(e.what(), HasSubstr(part));
  }
}

TEST(Practice, TypesByTheFirstRuleThatTakesALinear) {
  const Practice p = parse(practice(linear(kToken, ", include: ['*down_proj']") + ", " +
                                    linear(kStatic, ", exclude: [lm_head, '*.1.mlp.*']")));
  const auto& types = p.method.types;
  EXPECT_EQ(types.at("model.layers.0.mlp.down_proj"), Scheme::kW8A8Dynamic);
  EXPECT_EQ(types.at("model.layers.0.mlp.up_proj"), Scheme::kW8A8);
  EXPECT_EQ(types.at("model.layers.1.mlp.up_proj"), Scheme::kFloat);
  EXPECT_EQ(types.at("lm_head"), Scheme::kFloat);
  EXPECT_EQ(types.size(), 15u);
  EXPECT_TRUE(p.method.range_rule.extremes);
  EXPECT_FALSE(p.method.range_rule.symmetric);
}

TEST(Practice, Activations) {
  const auto scheme = [](const std::string& act) {
    return parse(practice(linear(act))).method.types.at("lm_head");
  };
  EXPECT_EQ(scheme(""), Scheme::kW8A16);
  EXPECT_EQ(scheme("dtype: float, scope: per_tensor, symmetric: True, method: none"),
            Scheme::kW8A16);
  EXPECT_EQ(scheme("scope: pd_mix, symmetric: False"), Scheme::kW8A8Mix);
  const ToolMethod o =
      parse(practice(linear("scope: per_tensor, symmetric: True, method: histogram, "
                            "ext: {aggregation_type: mean}")))
          .method;
  EXPECT_EQ(o.act_method, ActMethod::kHistogram);
  EXPECT_FALSE(o.range_rule.extremes);
  EXPECT_TRUE(o.range_rule.symmetric);
}

TEST(Practice, Smoothing) {
  const ToolMethod iter =
      parse(
          practice("{type: iter_smooth, alpha: 0.5, enable_subgraph_type: [norm-linear, up-down], "
                   "exclude: ['*.1.*']}, " +
                   linear(kToken)))
          .method;
  EXPECT_EQ(iter.anti_method, AntiMethod::kM4);
  EXPECT_EQ(iter.smooth->alpha, 0.5f);
  EXPECT_TRUE(iter.smooth->takes("model.layers.0.input_layernorm", LayerPart::kQkv));
  EXPECT_FALSE(iter.smooth->takes("model.layers.1.input_layernorm", LayerPart::kQkv));
  EXPECT_FALSE(iter.smooth->takes("model.layers.0.self_attn.v_proj", LayerPart::kO));
  EXPECT_TRUE(iter.smooth->takes("model.layers.0.mlp.up_proj", LayerPart::kDown));
  EXPECT_EQ(parse(practice("{type: smooth_quant}, " + linear(kToken))).method.anti_method,
            AntiMethod::kM1);
  const ToolMethod flex =
      parse(practice("{type: flex_smooth_quant, alpha: 0.75, beta: 0.1}, " + linear(kToken)))
          .method;
  EXPECT_EQ(flex.flex->exponents, (std::pair(0.75f, 0.1f)));
  EXPECT_TRUE(flex.flex->as_v1);
  const Practice all =
      parse(practice("{type: quarot}, {type: kv_smooth, smooth_factor: 0.5}, " + linear(kToken) +
                     ", {type: dynamic_cache, qconfig: {scope: per_channel, dtype: int8, "
                     "symmetric: True, method: minmax}}"));
  EXPECT_TRUE(all.method.rotations.residual && all.method.rotations.values);
  EXPECT_EQ(all.method.key_smooth->power, 0.5);
  EXPECT_TRUE(all.output.quantize_kv_cache);
}

TEST(Practice, FilesAndText) {
  const Practice p = parse(practice(linear(kToken),
                                    "  dataset: mix.jsonl\n  runner: auto\n  save: "
                                    "[{type: ascendv1_saver, part_file_size: 3}]\n"));
  EXPECT_EQ(p.dataset, "mix.jsonl");
  EXPECT_EQ(p.output.part_bytes, uint64_t{3} << 30);
}

TEST(Practice, RefusesByName) {
  const std::string one = linear(kToken);
  expect_refused("[", {"p.yaml", "YAML"});
  expect_refused("apiversion: modelslim_v0\nspec: {}", {"apiversion", "modelslim_v0"});
  expect_refused("apiversion: modelslim_v1", {"spec"});
  expect_refused(practice(""), {"spec.process", "linear_quant"});
  expect_refused(practice("{type: awq}, " + one), {"spec.process[0].type", "smooth_quant", "awq"});
  expect_refused(practice("{type: iter_smooth, beta: 1}, " + one),
                 {"spec.process[0].beta", "unknown"});
  expect_refused(practice("{type: iter_smooth, alpha: 2}, " + one), {"spec.process[0].alpha", "2"});
  expect_refused(practice("{type: iter_smooth, symmetric: False}, " + one), {"symmetric", "bias"});
  expect_refused(practice("{type: iter_smooth, scale_min: 0.1}, " + one), {"scale_min", "0.1"});
  expect_refused(practice("{type: iter_smooth, enable_subgraph_type: [moe]}, " + one), {"moe"});
  expect_refused(practice("{type: iter_smooth}, {type: smooth_quant}, " + one), {"a second"});
  expect_refused(practice("{type: flex_smooth_quant, alpha: 0.5}, " + one), {"beta"});
  expect_refused(practice("{type: quarot, online: True}, " + one), {"online"});
  expect_refused(practice("{type: quarot, block_size: 32}, " + one), {"block_size", "32"});
  expect_refused(practice("{type: iter_smooth}, {type: quarot}, " + one), {"quarot first"});
  expect_refused(practice(one + ", {type: iter_smooth}"), {"linear_quant and dynamic_cache last"});
  expect_refused(practice(linear("scope: per_group")), {"qconfig.act.scope", "per_group"});
  expect_refused(practice(linear("scope: per_token, symmetric: False")), {"act.symmetric"});
  expect_refused(practice(linear("scope: per_tensor, dtype: fp8")), {"act.dtype", "fp8"});
  expect_refused(practice("{type: linear_quant, qconfig: {weight: {dtype: int4}}}"),
                 {"weight.dtype", "int4"});
  expect_refused(practice("{type: linear_quant, qconfig: {weight: {method: ssz}}}"),
                 {"weight.method", "ssz"});
  expect_refused(practice("{type: linear_quant, qconfig: {}}"), {"qconfig.weight"});
  expect_refused(practice("{type: linear_quant, qconfig: 3}"),
                 {"spec.process[0].qconfig", "a map"});
  expect_refused(practice(linear(kToken, ", include: ['*.experts.*']")), {"takes a linear"});
  expect_refused(practice(one + ", " + linear("")), {"weights only"});
  expect_refused(practice(linear(kStatic, ", include: ['*mlp*']") + ", " +
                          linear("scope: per_tensor, symmetric: False, method: histogram")),
                 {"one way to static ranges"});
  expect_refused(practice(one + ", {type: dynamic_cache, qconfig: {symmetric: False}}"),
                 {"symmetric"});
  expect_refused(practice(one + ", {type: dynamic_cache, qconfig: {}, exclude: ['*.1.*']}"),
                 {"layer 1"});
  expect_refused(practice(one, "  prior: [{process: []}]\n"), {"spec.prior"});
  expect_refused(practice(one, "  save: [{type: mindie_format_saver}]\n"), {"mindie_format_saver"});
  expect_refused(practice(one, "  extra: 1\n"), {"spec.extra"});
}

TEST(Practice, BuiltIn) {
  for (const char* type : {"w8a8", "w8a16", "w8a8c8"}) {
    const Practice p = parse(builtin_practice(type));
    EXPECT_EQ(p.method.types.at("lm_head"), Scheme::kFloat);
    EXPECT_EQ(p.output.quantize_kv_cache, std::string(type) == "w8a8c8");
  }
  EXPECT_THROW(builtin_practice("w4a4"), Error);
}

}  // namespace
}  // namespace octet
