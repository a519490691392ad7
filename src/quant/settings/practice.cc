#include "src/quant/settings/practice.h"

#include <algorithm>
#include <array>

#include "src/base/error.h"
#include "src/quant/settings/yaml_map.h"

namespace octet {
namespace {

constexpr double kOnlyScaleMin = 1e-5;  // the least smoothing scale, of every method

// A linear_quant: what it makes of the linears that it takes.
struct LinearRule {
  Scheme scheme = Scheme::kW8A16;
  NameFilter names;
  ActMethod method = ActMethod::kMinMax;
  RangeRule ranges;
  bool asymmetric_weights = false;
};

class PracticeReader {
 public:
  PracticeReader(const std::string& yaml, const std::string& where, const ModelConfig& config)
      : where_(where), config_(config) {
    try {
      root_ = YAML::Load(yaml);
    } catch (const YAML::Exception& e) {
      throw Error("is no YAML", ErrorKind::kUsage).file(where).found(e.what());
    }
  }

  Practice read() {
    YamlMap file(root_, where_, "");
    file.word("apiversion", "", {"modelslim_v1"});
    if (!file.has("spec")) throw file.wrong("spec", "the processors", "nothing");
    YamlMap spec = file.map("spec");  // other names at the top hold metadata and anchors
    const std::string runner =
        spec.word("runner", "auto", {"auto", "model_wise", "layer_wise", "dp_layer_wise"});
    if (runner == "model_wise" || runner == "dp_layer_wise")
      no_effect(spec, "runner", "always layer by layer");
    if (!spec.list("prior").empty()) throw spec.wrong("prior", "no stages before", "some");
    practice_.dataset = spec.text("dataset", "");
    read_save(spec);
    for (YamlMap& processor : spec.list("process")) read_processor(processor);
    spec.finish();
    if (rules_.empty()) throw spec.wrong("process", "a linear_quant", "none");
    settle(spec);
    return std::move(practice_);
  }

 private:
  void no_effect(const YamlMap& map, const std::string& field, const std::string& why) {
    practice_.notes.push_back(map.path() + "." + field + " has no effect: " + why);
  }

  using Read = void (PracticeReader::*)(YamlMap&);
  struct Processor {
    const char* type;
    int stage;  // the order in which they work; a list out of this order is refused
    Read read;
  };
  static constexpr int kLast = 2;

  void read_processor(YamlMap& p) {
    static constexpr std::array<Processor, 7> kProcessors = {
        {{"smooth_quant", 1, &PracticeReader::smooth_quant},
         {"iter_smooth", 1, &PracticeReader::iter_smooth},
         {"flex_smooth_quant", 1, &PracticeReader::flex_smooth_quant},
         {"quarot", 0, &PracticeReader::quarot},
         {"kv_smooth", 1, &PracticeReader::kv_smooth},
         {"linear_quant", kLast, &PracticeReader::linear_quant},
         {"dynamic_cache", kLast, &PracticeReader::dynamic_cache}}};
    std::string known;
    const std::string type = p.text("type", "");
    for (const Processor& processor : kProcessors) {
      known += std::string(known.empty() ? "" : ", ") + processor.type;
      if (type != processor.type) continue;
      if (processor.stage < stage_)
        throw p.wrong("type", "quarot first, linear_quant and dynamic_cache last", type);
      stage_ = processor.stage;
      (this->*processor.read)(p);
      p.finish();
      return;
    }
    throw p.wrong("type", known, type.empty() ? "nothing" : type);
  }

  static NameFilter filter(YamlMap& p) {
    NameFilter f;
    f.include = p.names("include", f.include);
    if (f.include.empty()) f.include = {"*"};
    f.exclude = p.names("exclude", {});
    return f;
  }

  // The one smoothing processor: its method, which subgraphs and which sources.
  SmoothScope& smoothing(YamlMap& p, AntiMethod method) {
    if (practice_.method.anti_method != AntiMethod::kNone)
      throw p.wrong("type", "one processor that smooths", "a second");
    practice_.method.anti_method = method;
    SmoothScope& scope = practice_.method.smooth.emplace();
    scope.sources = filter(p);
    if (method == AntiMethod::kM1) return scope;
    const std::vector<std::string> all = {"norm-linear", "linear-linear", "ov", "up-down"};
    const std::vector<std::string> on = p.names("enable_subgraph_type", all);
    for (const std::string& name : on)
      if (std::ranges::find(all, name) == all.end())
        throw p.wrong("enable_subgraph_type", "norm-linear, linear-linear, ov or up-down", name);
    const auto has = [&](const char* name) { return std::ranges::find(on, name) != on.end(); };
    scope.after_norm = has("norm-linear");
    scope.from_v = has("ov");
    scope.from_up = has("up-down");
    return scope;
  }
  static void symmetric_only(YamlMap& p) {
    if (!p.flag("symmetric", true)) throw p.wrong("symmetric", "True: norms get no bias", "False");
  }

  void smooth_quant(YamlMap& p) {
    smoothing(p, AntiMethod::kM1).alpha = static_cast<float>(p.number("alpha", 0.5, 0, 1));
    symmetric_only(p);
  }

  void iter_smooth(YamlMap& p) {
    smoothing(p, AntiMethod::kM4).alpha = static_cast<float>(p.number("alpha", 0.9, 0, 1));
    symmetric_only(p);
    if (p.number("scale_min", kOnlyScaleMin, 0, 1) != kOnlyScaleMin)
      throw p.wrong("scale_min", "1e-5", p.text("scale_min", ""));
  }

  void flex_smooth_quant(YamlMap& p) {
    smoothing(p, AntiMethod::kM6);
    FlexSmooth& flex = practice_.method.flex.emplace();
    flex.as_v1 = true;
    const bool alpha = p.has("alpha"), beta = p.has("beta");  // without both they are searched
    const double a = p.number("alpha", 0, 0, 1), b = p.number("beta", 0, 0, 1);
    if (alpha && beta) flex.exponents.emplace(static_cast<float>(a), static_cast<float>(b));
    if (alpha != beta)
      throw p.wrong(alpha ? "beta" : "alpha", "both of alpha and beta, or neither", "nothing");
  }

  void quarot(YamlMap& p) {
    if (p.flag("online", false)) throw p.wrong("online", "False: merged into the weights", "True");
    p.integer("block_size", -1, -1, -1);
    if (!p.names("down_proj_online_layers", {}).empty())
      throw p.wrong("down_proj_online_layers", "none", "some");
    if (p.has("max_tp_size")) {
      p.integer("max_tp_size", 4, 1, 1 << 20);
      no_effect(p, "max_tp_size", "heads are rotated one by one");
    }
    if (p.flag("export_extra_info", false))
      no_effect(p, "export_extra_info", "the rotations are not written");
    practice_.method.rotations = {1, 1};
  }

  void kv_smooth(YamlMap& p) {
    KeySmooth& keys = practice_.method.key_smooth.emplace();
    keys.power = p.number("smooth_factor", 1, 1e-6, 4);
    keys.attention = filter(p);
  }

  // Of weights and of a cache: int8 per channel by the extremes. Returns whether symmetric.
  static bool per_channel(YamlMap& q) {
    q.word("dtype", "int8", {"int8"});
    q.word("scope", "per_channel", {"per_channel"});
    q.word("method", "minmax", {"minmax"});
    q.map("ext").finish();
    return q.flag("symmetric", true);
  }

  void linear_quant(YamlMap& p) {
    YamlMap qconfig = p.map("qconfig");
    LinearRule rule;
    rule.names = filter(p);
    if (qconfig.has("act")) {
      YamlMap act = qconfig.map("act");
      if (act.text("dtype", "int8") != "float")
        read_act(act, rule);
      else
        for (const char* field : {"scope", "symmetric", "method"}) act.ignore(field);
      act.finish();
    }
    if (!qconfig.has("weight")) throw qconfig.wrong("weight", "int8 per channel", "nothing");
    YamlMap weight = qconfig.map("weight");
    rule.asymmetric_weights = !per_channel(weight);
    if (rule.asymmetric_weights && !is_weight_only(rule.scheme))
      throw weight.wrong("symmetric", "True, but for weights only", "False");
    weight.finish();
    qconfig.finish();
    rules_.push_back(std::move(rule));
  }

  static void read_act(YamlMap& act, LinearRule& rule) {
    act.word("dtype", "int8", {"int8"});
    const std::string scope =
        act.word("scope", "per_tensor", {"per_tensor", "per_token", "pd_mix"});
    rule.scheme = scope == "per_token"    ? Scheme::kW8A8Dynamic
                  : scope == "per_tensor" ? Scheme::kW8A8
                                          : Scheme::kW8A8Mix;
    const bool symmetric = act.flag("symmetric", scope == "per_token");
    if (scope == "per_token" && !symmetric)
      throw act.wrong("symmetric", "True, for scales per token", "False");
    const std::string method = act.word("method", "minmax", {"minmax", "histogram"});
    YamlMap ext = act.map("ext");
    const std::string aggregation = ext.word("aggregation_type", "max", {"max", "mean"});
    ext.finish();
    if (scope == "per_token") return;
    rule.method = method == "histogram" ? ActMethod::kHistogram : ActMethod::kMinMax;
    rule.ranges = {aggregation == "max", scope == "per_tensor" && symmetric};
  }

  void dynamic_cache(YamlMap& p) {
    YamlMap q = p.map("qconfig");
    if (!per_channel(q))
      throw q.wrong("symmetric", "True: vLLM-Ascend takes no offset off", "False");
    q.finish();
    const NameFilter names = filter(p);
    for (int64_t layer = 0; layer < config_.layers; ++layer)
      if (!names.takes(layer_prefix(layer) + "self_attn"))
        throw p.wrong("exclude", "every layer's attention: loaders have one type of cache",
                      "layer " + std::to_string(layer) + " left out");
    practice_.output.quantize_kv_cache = true;
  }

  void read_save(YamlMap& spec) {
    std::vector<YamlMap> saves = spec.list("save");
    if (saves.size() > 1) throw spec.wrong("save", "one output", "more");
    for (YamlMap& save : saves) {
      save.word("type", "", {"ascendv1_saver"});
      const int64_t gb = save.integer("part_file_size", 4, 0, 1 << 20);
      practice_.output.part_bytes = static_cast<uint64_t>(gb) << 30;
      save.map("ext").finish();
      save.finish();
    }
  }

  // The rules as types of linears; what options hold once must be the same in all rules.
  void settle(const YamlMap& spec) {
    ToolMethod& m = practice_.method;
    const LinearRule* fixed = nullptr;
    for (const LinearRule& rule : rules_) {
      if (is_weight_only(rule.scheme) != is_weight_only(rules_[0].scheme))
        throw spec.wrong("process", "weights only in every linear_quant, or in none", "both");
      if (rule.asymmetric_weights != rules_[0].asymmetric_weights)
        throw spec.wrong("process", "weights of one symmetry", "both");
      if (!has_static_input(rule.scheme)) continue;
      if (fixed != nullptr && (rule.method != fixed->method || rule.ranges != fixed->ranges))
        throw spec.wrong("process", "one way to static ranges", "two linear_quant that differ");
      fixed = &rule;
    }
    m.scheme = rules_[0].scheme;
    m.asymmetric_weights = rules_[0].asymmetric_weights;
    if (fixed != nullptr) {
      m.act_method = fixed->method;
      m.range_rule = fixed->ranges;
    }
    bool any = false;
    for (const NamedLinear& l : linears_of(config_)) {
      const auto rule =
          std::ranges::find_if(rules_, [&](const auto& r) { return r.names.takes(l.name); });
      m.types[l.name] = rule == rules_.end() ? Scheme::kFloat : rule->scheme;
      any = any || rule != rules_.end();
    }
    if (!any) throw spec.wrong("process", "a linear_quant that takes a linear", "none");
  }

  std::string where_;
  const ModelConfig& config_;
  YAML::Node root_;
  Practice practice_;
  std::vector<LinearRule> rules_;
  int stage_ = 0;
};

constexpr const char* kW8A8 = R"(apiversion: modelslim_v1
spec:
  process:
    - type: iter_smooth
    - type: linear_quant
      qconfig:
        act: {scope: per_token, dtype: int8, symmetric: True, method: minmax}
        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}
      exclude: [lm_head]
)";
constexpr const char* kC8 = R"(    - type: dynamic_cache
      qconfig: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}
)";
constexpr const char* kW8A16 = R"(apiversion: modelslim_v1
spec:
  process:
    - type: linear_quant
      qconfig:
        weight: {scope: per_channel, dtype: int8, symmetric: True, method: minmax}
      exclude: [lm_head]
)";

}  // namespace

Practice parse_practice(const std::string& yaml, const std::string& where,
                        const ModelConfig& config) {
  Practice practice = PracticeReader(yaml, where, config).read();
  practice.method.origin = PracticeYaml{yaml};
  return practice;
}

std::string builtin_practice(const std::string& type) {
  if (type == "w8a8") return kW8A8;
  if (type == "w8a8c8") return std::string(kW8A8) + kC8;
  if (type == "w8a16") return kW8A16;
  throw Error("this type is outside of what Octet does", ErrorKind::kUsage)
      .field("--quant_type")
      .expected("w8a8, w8a16 or w8a8c8")
      .found(type);
}

}  // namespace octet
