// What the flags of `octet quantize` ask for.
#include <fmt/format.h>

#include <algorithm>
#include <regex>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/cli/quantize_flags.h"

namespace octet::cli {
namespace {

AntiMethod parse_method(const std::string& s) {
  if (const auto method = parse_anti_method(s == "none" ? "" : s)) return *method;
  throw Error("unknown outlier suppression", ErrorKind::kUsage)
      .field("--anti_method")
      .expected(anti_method_list(", ") + " or nothing")
      .found(s);
}

Scheme parse_scheme_flags(const QuantizeFlags& f) {
  if (f.is_dynamic + f.pdmix + (f.a_bit == 16) > 1)
    throw usage_error("--is_dynamic True, --pdmix True and --a_bit 16 exclude each other");
  if (f.a_bit == 16) return Scheme::kW8A16;
  return f.is_dynamic ? Scheme::kW8A8Dynamic : f.pdmix ? Scheme::kW8A8Mix : Scheme::kW8A8;
}

size_t parse_level(const std::string& s) {
  static const std::regex form("L(0|[1-9][0-9]{0,8})");
  std::smatch match;
  if (!std::regex_match(s, match, form))
    throw Error("no level", ErrorKind::kUsage)
        .field("--disable_level")
        .expected("L0, L1, L2, ...")
        .found(s);
  return std::stoul(match[1]);
}

// The tool's tokenizer arguments: those that change nothing for samples of one text are taken.
void check_tokenizer_args(const std::string& s) {
  if (s.empty()) return;
  const json args = flag_json(s, "--tokenizer_args", json::value_t::object);
  for (const auto& [key, value] : args.items())
    if (key != "padding_side" && key != "pad_token" && key != "eos_token")
      throw Error("this tokenizer argument is not supported", ErrorKind::kUsage)
          .field("--tokenizer_args")
          .expected("padding_side, pad_token (samples are never padded, so they change nothing)")
          .found(key);
}

// Flags that are taken and change nothing say so.
void note_flags_without_effect(const QuantizeFlags& f) {
  if (!f.tokenizer_args.empty()) notice("--tokenizer_args has no effect: samples are never padded");
  if (!f.input_ids_name.empty() || !f.attention_mask_name.empty())
    notice(
        "--input_ids_name and --attention_mask_name have no effect: there is no such dictionary");
  if (!f.model_name.empty())
    notice("--model_name has no effect: the only name that msModelSlim heeds is baichuan");
  if (f.mindie_format && f.compat.empty())
    notice(
        "--mindie_format: files and arithmetic of --compat msmodelslim; without it the output is "
        "what MindIE and vLLM-Ascend both load");
  if (data_free(f) && f.disable_level != "L0")
    notice("--disable_level has no effect without calibration text");
  note_remote_code(f.trust_remote_code);
}

ToolMethod tool_method(const QuantizeFlags& f) {
  ToolMethod m;
  m.act_method = static_cast<ActMethod>(f.act_method);
  m.scheme = parse_scheme_flags(f);
  m.asymmetric_weights = !f.w_sym;
  m.anti_method = parse_method(f.anti_method);
  if (!(f.disable_threshold >= 0)) throw usage_error("--disable_threshold: expected a number >= 0");
  m.disable_threshold = f.disable_threshold;
  m.disable_level = parse_level(f.disable_level);
  if (data_free(f)) m.disable_level = 0;  // scores are learnt from text
  return m;
}

Layout layout_of(const QuantizeFlags& f) {
  if (f.mindie_format && f.compat == "msmodelslim_v1")
    throw usage_error(
        "--mindie_format is a layout of msModelSlim v0: give it or --compat msmodelslim_v1");
  if (f.mindie_format) return Layout::kMindie;
  if (f.compat.empty()) return Layout::kOctet;
  return f.compat == "msmodelslim" ? Layout::kMsmodelslim : Layout::kMsmodelslimV1;
}

OutputSettings output_settings(const QuantizeFlags& f) {
  OutputSettings o;
  o.layout = layout_of(f);
  o.quantize_kv_cache = f.use_kvcache_quant;
  if (f.layer_count < 0) throw usage_error("--layer_count: expected a number >= 0");
  o.keep_float = {std::nullopt, f.disable_last_linear, f.model_type, f.layer_count};
  if (f.disable_names == std::vector<std::string>{"none"}) {
    o.keep_float.names.emplace();
  } else if (!f.disable_names.empty() && f.disable_names != std::vector<std::string>{""}) {
    o.keep_float.names = f.disable_names;
  }
  if (!(f.part_file_size >= 0 && f.part_file_size < 1e6))
    throw usage_error("--part_file_size: expected a size in GB; 0 = one file");
  o.part_bytes = static_cast<uint64_t>(f.part_file_size * (1 << 30));
  return o;
}

// The flags of the tool's way that want something of it: given, and not its default.
std::vector<ToolFlag> asking_flags(const QuantizeFlags& f) {
  std::vector<ToolFlag> asking;
  for (const ToolFlag& tool : f.of_tool)
    if (tool.flag.given_another() &&
        (tool.of_any_recipe.empty() || tool.flag.value() != tool.of_any_recipe))
      asking.push_back(tool);
  return asking;
}

// `octet quantize MODEL OUT` takes the recipe octet; flags that want something of the tool's way,
// which its defaults do not, take that way.
void choose_recipe(const QuantizeFlags& f, QuantizeOptions& o) {
  const bool budgets = f.float_budget || f.dynamic_budget;
  const std::vector<ToolFlag> asking = asking_flags(f);
  const bool asks = std::ranges::any_of(
      asking, [](const ToolFlag& tool) { return tool.concerns != Concerns::kNames; });
  std::string name = f.recipe;
  if (name.empty() && (budgets || (!f.model.empty() && !asks))) name = "octet";
  if (name.empty()) return;
  Recipe recipe = load_recipe(name);
  const bool tools_way = recipe.find<MsModelSlim>() != nullptr;
  for (const ToolFlag& tool : asking) {
    if (tools_way && tool.concerns != Concerns::kMethod) continue;
    if (tool.concerns != Concerns::kNames)
      throw usage_error(
          fmt::format("{} belongs to msModelSlim's way of quantizing, and a recipe "
                      "says itself what to do: give one of them",
                      tool.flag.name()));
    notice(fmt::format(
        "{} has no effect: with the recipe {} no linear stays in float by the model type's list",
        tool.flag.name(), recipe.name));
  }
  if (budgets && tools_way)
    throw usage_error(fmt::format(
        "--float_budget and --dynamic_budget: not of the recipe {}, which is msModelSlim's way",
        recipe.name));
  if (f.use_kvcache_quant) recipe.get<QuantizeKvCache>();
  if (f.float_budget)
    recipe.get<ChooseTypes>().float_budget = static_cast<int64_t>(*f.float_budget);
  if (f.dynamic_budget)
    recipe.get<ChooseTypes>().dynamic_budget = static_cast<int64_t>(*f.dynamic_budget);
  o.take_recipe(std::move(recipe));
}

}  // namespace

// MODEL OUT, or the tool's --model_path and --save_directory.
void settle_paths(QuantizeFlags& f) {
  const auto settle = [](const std::string& positional, std::string& flag, const char* names) {
    if (positional.empty() == flag.empty()) throw usage_error(fmt::format("give one of {}", names));
    if (flag.empty()) flag = positional;
  };
  settle(f.model, f.model_path, "MODEL and --model_path");
  settle(f.out, f.save_directory, "OUT and --save_directory");
}

QuantizeOptions options_of(const QuantizeFlags& f) {
  check_device("--device_type", f.device_type);
  check_tokenizer_args(f.tokenizer_args);
  QuantizeOptions o;
  o.method = tool_method(f);
  o.output = output_settings(f);
  o.run = f.run.settings();
  choose_recipe(f, o);
  note_flags_without_effect(f);
  return o;
}

}  // namespace octet::cli
