#include "src/quant/settings/layer_choice.h"

#include <gtest/gtest.h>

#include <set>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr int64_t kLayers = 7;
const std::vector<std::string> kOtherSix = {"self_attn.q_proj", "self_attn.k_proj",
                                            "self_attn.v_proj", "self_attn.o_proj",
                                            "mlp.gate_proj",    "mlp.up_proj"};

ModelConfig model(Family family = Family::kLlama, int64_t layers = kLayers) {
  ModelConfig c;
  c.family = family;
  c.layers = layers;
  return c;
}

std::string in_layer(int64_t layer, const std::string& linear) {
  return "model.layers." + std::to_string(layer) + "." + linear;
}

std::set<std::string> names(const KeptInFloat& kept) {
  std::set<std::string> out;
  for (const auto& [name, reason] : kept) {
    out.insert(name);
    EXPECT_FALSE(reason.empty()) << name;
  }
  return out;
}

OutputSettings of_type(const std::string& type, bool last_linear = false) {
  OutputSettings o;
  o.keep_float.model_type = type;
  o.keep_float.last_linear = last_linear;
  return o;
}

OutputSettings with_names(std::vector<std::string> list, bool compat) {
  OutputSettings o;
  o.keep_float.names = std::move(list);
  o.keep_float.last_linear = false;
  if (compat) o.layout = Layout::kMsmodelslim;
  return o;
}

// Fails unless `action` throws a usage error at `field` whose text holds `part`.
template <typename Action>
void expect_usage_error(Action action, const std::string& field, const std::string& part) {
  try {
    action();
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_EQ(e.field_name(), field);
    EXPECT_NE(std::string(e.what()).find(part), std::string::npos) << e.what();
  }
}

// The table of docs/quantization.md, "Which linears stay in float".
struct Defaults {
  const char* type;
  int64_t down_layers;   // down_proj of this many layers
  int64_t other_layers;  // the other six of this many layers
  bool head;
};
constexpr Defaults kDefaults[] = {
    {"llama", kLayers, 0, false},       {"llama2", kLayers, 0, false},
    {"llama3.1_bf", kLayers, 0, false}, {"llama3", 5, 5, true},
    {"llama3.1_fp", kLayers, 5, true},  {"llama3.1_instruct", kLayers, 5, true},
    {"qwen1.5", kLayers, 0, true},      {"qwen2", kLayers, 0, true},
    {"qwen2.5", kLayers, 0, true},      {"qwen3", kLayers, 0, true},
};

std::set<std::string> expected(const Defaults& d) {
  std::set<std::string> out;
  for (int64_t i = 0; i < d.down_layers; ++i) out.insert(in_layer(i, "mlp.down_proj"));
  for (int64_t i = 0; i < d.other_layers; ++i)
    for (const std::string& linear : kOtherSix) out.insert(in_layer(i, linear));
  if (d.head) out.insert("lm_head");
  return out;
}

TEST(ChooseByName, DefaultsOfEveryModelType) {
  for (const Defaults& d : kDefaults) {
    SCOPED_TRACE(d.type);
    std::set<std::string> want = expected(d);
    EXPECT_EQ(names(choose_by_name(model(), of_type(d.type), Scheme::kW8A8)), want);
    want.insert("lm_head");
    EXPECT_EQ(names(choose_by_name(model(), of_type(d.type, true), Scheme::kW8A8)), want);
  }
}

TEST(ChooseByName, FamilyGivesTheModelType) {
  EXPECT_EQ(names(choose_by_name(model(Family::kLlama), of_type(""), Scheme::kW8A8)),
            expected(kDefaults[1]));
  EXPECT_EQ(names(choose_by_name(model(Family::kQwen2), of_type(""), Scheme::kW8A8)),
            expected(kDefaults[7]));
}

TEST(ChooseByName, RefusesUnknownModelTypes) {
  for (const char* type : {"llama4", "LLAMA", "qwen"})
    expect_usage_error([&] { choose_by_name(model(), of_type(type), Scheme::kW8A8); },
                       "--model_type", type);
}

TEST(ChooseByName, FirstLayersMustExist) {
  for (const char* type : {"llama3", "llama3.1_fp", "llama3.1_instruct"}) {
    expect_usage_error(
        [&] { choose_by_name(model(Family::kLlama, 4), of_type(type), Scheme::kW8A8); },
        "--model_type", "4 layers");
    EXPECT_NO_THROW(choose_by_name(model(Family::kLlama, 5), of_type(type), Scheme::kW8A8));
  }
  EXPECT_EQ(choose_by_name(model(Family::kLlama, 1), of_type("llama2"), Scheme::kW8A8).size(), 1u);
}

TEST(ChooseByName, NamesReplaceTheDefaults) {
  const std::vector<std::string> list = {"model.layers.6.mlp.down_proj", "lm_head"};
  EXPECT_EQ(names(choose_by_name(model(), with_names(list, false), Scheme::kW8A8)),
            std::set<std::string>(list.begin(), list.end()));
  EXPECT_TRUE(choose_by_name(model(), with_names({}, false), Scheme::kW8A8).empty());
  OutputSettings last = with_names({}, false);
  last.keep_float.last_linear = true;
  EXPECT_EQ(names(choose_by_name(model(), last, Scheme::kW8A8)), std::set<std::string>{"lm_head"});
}

TEST(ChooseByName, NamesTakeTheirGroupAlong) {
  const std::vector<std::string> list = {
      in_layer(1, "self_attn.k_proj"), in_layer(2, "mlp.up_proj"), in_layer(3, "self_attn.o_proj")};
  EXPECT_EQ(names(choose_by_name(model(), with_names(list, false), Scheme::kW8A8)),
            (std::set<std::string>{in_layer(1, "self_attn.q_proj"), list[0],
                                   in_layer(1, "self_attn.v_proj"), in_layer(2, "mlp.gate_proj"),
                                   list[1], list[2]}));
  EXPECT_EQ(names(choose_by_name(model(), with_names(list, true), Scheme::kW8A8)),
            std::set<std::string>(list.begin(), list.end()));
}

TEST(ChooseByName, RefusesUnknownNames) {
  for (const char* name : {"model.layers.7.mlp.down_proj", "model.layers.0.down_proj", "down_proj",
                           "model.layers.0.mlp.down_proj.weight", "model.norm", " lm_head"})
    expect_usage_error(
        [&] {
          choose_by_name(model(), with_names({"lm_head", name}, false), Scheme::kW8A8);
        },
        "--disable_names", name);
}

KeptInFloat by_score(const std::vector<LinearScore>& scores, size_t count, bool whole_groups,
                     KeptInFloat kept = {}) {
  choose_by_score(scores, count, whole_groups, kept);
  return kept;
}

TEST(ChooseByScore, TakesTheHighest) {
  const std::vector<LinearScore> scores = {{"a", 3}, {"b", 9}, {"c", 1}, {"d", 7}};
  EXPECT_TRUE(by_score(scores, 0, true).empty());
  EXPECT_EQ(names(by_score(scores, 1, true)), (std::set<std::string>{"b"}));
  EXPECT_EQ(names(by_score(scores, 3, true)), (std::set<std::string>{"a", "b", "d"}));
  EXPECT_EQ(names(by_score(scores, 99, true)), (std::set<std::string>{"a", "b", "c", "d"}));
}

TEST(ChooseByScore, TiesGoInOrderOfExecution) {
  const std::vector<LinearScore> scores = {{"z", 5}, {"y", 8}, {"x", 5}, {"w", 5}, {"v", 8}};
  EXPECT_EQ(names(by_score(scores, 1, true)), (std::set<std::string>{"y"}));
  EXPECT_EQ(names(by_score(scores, 3, true)), (std::set<std::string>{"y", "v", "z"}));
  EXPECT_EQ(names(by_score(scores, 4, true)), (std::set<std::string>{"y", "v", "z", "x"}));
  std::vector<LinearScore> many;  // more than a sort does by insertion
  std::set<std::string> first;
  for (int64_t i = 0; i < 200; ++i) many.push_back({in_layer(i, "mlp.down_proj"), 1});
  for (int64_t i = 0; i < 20; ++i) first.insert(many[static_cast<size_t>(i)].name);
  EXPECT_EQ(names(by_score(many, 20, true)), first);
}

TEST(ChooseByScore, KeptOnesDoNotCount) {
  const std::vector<LinearScore> scores = {{"a", 3}, {"b", 9}, {"c", 1}};
  const KeptInFloat kept = by_score(scores, 1, true, {{"b", "named"}});
  EXPECT_EQ(names(kept), (std::set<std::string>{"a", "b"}));
  EXPECT_EQ(kept.at("b"), "named");
}

TEST(ChooseByScore, GroupsStayWhole) {
  std::vector<LinearScore> scores;
  for (int64_t layer : {0, 1})
    for (const char* linear : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                               "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
      scores.push_back({in_layer(layer, linear), 1});
  scores[7 + 1].score = 9;  // layer 1: k
  scores[4].score = 8;      // layer 0: gate
  EXPECT_EQ(names(by_score(scores, 2, false)),
            (std::set<std::string>{in_layer(1, "self_attn.k_proj"), in_layer(0, "mlp.gate_proj")}));
  EXPECT_EQ(names(by_score(scores, 2, true)),
            (std::set<std::string>{in_layer(1, "self_attn.q_proj"), in_layer(1, "self_attn.k_proj"),
                                   in_layer(1, "self_attn.v_proj"), in_layer(0, "mlp.gate_proj"),
                                   in_layer(0, "mlp.up_proj")}));
  scores[3].score = 10;  // layer 0: o has no others
  EXPECT_EQ(names(by_score(scores, 1, true)),
            (std::set<std::string>{in_layer(0, "self_attn.o_proj")}));
}

TEST(ChooseByName, LayerCountShortensTheDefaults) {
  OutputSettings o = of_type("qwen2");
  o.keep_float.layer_count = 2;
  EXPECT_EQ(names(choose_by_name(model(Family::kQwen2), o, Scheme::kW8A8)),
            (std::set<std::string>{in_layer(0, "mlp.down_proj"), in_layer(1, "mlp.down_proj"),
                                   "lm_head"}));
  o.keep_float.layer_count = 100;
  EXPECT_EQ(names(choose_by_name(model(Family::kQwen2), o, Scheme::kW8A8)), expected(kDefaults[7]));
}

// quant_llama.py has no defaults with 16-bit activations, quant_qwen.py has.
TEST(ChooseByName, DefaultsWithFloatActivations) {
  const OutputSettings llama = of_type("llama2"), qwen = of_type("qwen2");
  EXPECT_TRUE(choose_by_name(model(), llama, Scheme::kW8A16).empty());
  EXPECT_EQ(names(choose_by_name(model(Family::kQwen2), qwen, Scheme::kW8A16)),
            expected(kDefaults[7]));
}

TEST(ChooseByThreshold, CandidatesAreNamesOrDownProj) {
  OutputSettings o = of_type("llama3");
  EXPECT_EQ(threshold_candidates(model(Family::kLlama, 2), o.keep_float),
            (std::vector<std::string>{in_layer(0, "mlp.down_proj"), in_layer(1, "mlp.down_proj")}));
  o.keep_float.model_type = "qwen2.5";
  o.keep_float.layer_count = 1;
  EXPECT_EQ(threshold_candidates(model(Family::kQwen2, 2), o.keep_float),
            (std::vector<std::string>{"lm_head", in_layer(0, "mlp.down_proj")}));
  o.keep_float.names = {{in_layer(1, "mlp.up_proj")}};
  EXPECT_EQ(threshold_candidates(model(Family::kQwen2, 2), o.keep_float), *o.keep_float.names);
  o.keep_float.names = {{"nothing"}};
  expect_usage_error([&] { threshold_candidates(model(), o.keep_float); }, "--disable_names",
                     "nothing");
}

TEST(ChooseByTypes, KeepsWholeGroupsAndRefusesMixedOnes) {
  std::map<std::string, Scheme> types;
  for (const LinearRow& row : linear_rows()) types[layer_prefix(0) + row.name] = Scheme::kW8A8;
  types["lm_head"] = Scheme::kFloat;
  types["model.layers.0.self_attn.k_proj"] = Scheme::kFloat;
  types["model.layers.0.mlp.down_proj"] = Scheme::kW8A8Dynamic;
  EXPECT_EQ(names(choose_by_types(model(Family::kLlama, 1), types)),
            (std::set<std::string>{in_layer(0, "self_attn.q_proj"), in_layer(0, "self_attn.k_proj"),
                                   in_layer(0, "self_attn.v_proj"), "lm_head"}));
  types["model.layers.0.mlp.up_proj"] = Scheme::kW8A8Dynamic;
  expect_usage_error([&] { choose_by_types(model(Family::kLlama, 1), types); }, "", "up_proj");
}

TEST(CutFromGroups, AreThoseWithoutAllTheOthers) {
  KeptInFloat kept;
  for (const char* name : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                           "self_attn.o_proj", "mlp.down_proj"})
    kept[in_layer(0, name)] = "";
  kept["lm_head"] = "";
  EXPECT_TRUE(cut_from_groups(kept).empty());
  kept[in_layer(1, "self_attn.k_proj")] = kept[in_layer(1, "mlp.up_proj")] = "";
  EXPECT_EQ(cut_from_groups(kept), (std::vector<std::string>{in_layer(1, "mlp.up_proj"),
                                                             in_layer(1, "self_attn.k_proj")}));
}

TEST(ChooseByThreshold, KeepsWhatScoresHigher) {
  const std::vector<LinearScore> scores = {{in_layer(0, "mlp.down_proj"), 1.5},
                                           {in_layer(1, "mlp.down_proj"), 1},
                                           {in_layer(2, "mlp.up_proj"), 7}};
  OutputSettings o = of_type("llama2", true);
  EXPECT_EQ(names(choose_by_threshold(model(), o, 1, scores)),
            (std::set<std::string>{in_layer(0, "mlp.down_proj"), in_layer(2, "mlp.up_proj"),
                                   in_layer(2, "mlp.gate_proj"), "lm_head"}));
  o.layout = Layout::kMsmodelslim;
  o.keep_float.last_linear = false;
  EXPECT_EQ(names(choose_by_threshold(model(), o, 1, scores)),
            (std::set<std::string>{in_layer(0, "mlp.down_proj"), in_layer(2, "mlp.up_proj")}));
}

}  // namespace
}  // namespace octet
