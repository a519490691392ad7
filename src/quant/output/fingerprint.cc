#include "src/quant/output/fingerprint.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "src/base/hash.h"
#include "src/machine/cpu.h"

namespace octet {
namespace {

std::string hex(uint64_t hash) { return fmt::format("{:016x}", hash); }

std::string tokens_of(const std::vector<TokenBatch>& batches) {
  size_t sequences = 0;
  for (const TokenBatch& batch : batches) sequences += batch.size();
  return fmt::format("{} sequences, {}", sequences, tokens_hash(batches));
}

std::string words(const NameFilter& f) {
  return fmt::format("{} without {}", fmt::join(f.include, " "), fmt::join(f.exclude, " "));
}

template <typename T>
std::string words(const std::optional<T>& v) {
  return v ? fmt::format("{}", *v) : "";
}

// Settings are named by the flags that set them. A new member does not compile in these functions
// before it is thought of.

void add_output(const OutputSettings& output, Fingerprint& f) {
  const auto& [layout, quantize_kv_cache, keep_float, part_bytes] = output;
  const auto& [names, last_linear, model_type, layer_count] = keep_float;
  f["--use_kvcache_quant"] = fmt::format("{}", quantize_kv_cache);
  f["--disable_names"] = names ? fmt::format("given: {}", fmt::join(*names, " ")) : "";
  f["--model_type"] = model_type;
  f["--layer_count"] = fmt::format("{}", layer_count);
  f["--disable_last_linear"] = fmt::format("{}", last_linear);
  f["--compat, --mindie_format"] = layout_name(layout);
  f["--part_file_size"] = fmt::format("{}", part_bytes);
}

// A line of the recipe, "  - step: {...}", each by itself, so that a message shows what differs.
void add_recipe(const Recipe& recipe, Fingerprint& f) {
  for_each_line(to_yaml(recipe), [&](size_t, std::string_view line) {
    const std::string_view step = line.substr(std::min(line.size(), line.find_first_not_of(" -")));
    const size_t end = std::min(step.size(), step.find(':'));
    f[fmt::format("{} of the recipe", step.substr(0, end))] =
        "given" + std::string(step.substr(end));
  });
}

void add_tool(const ToolMethod& method, Fingerprint& f) {
  const auto& [origin, scheme, asymmetric_weights, act_method, anti_method, flex, disable_level,
               disable_threshold, types, smooth, range_rule, rotations, key_smooth] = method;
  if (const Recipe* recipe = std::get_if<Recipe>(&origin)) add_recipe(*recipe, f);
  f["type (--a_bit, --is_dynamic, --pdmix)"] = scheme_name(scheme);
  f["--w_sym"] = asymmetric_weights ? "False" : "True";
  f["--act_method"] = fmt::format("{}", static_cast<int>(act_method));
  f["--anti_method"] = anti_method_name(anti_method);
  f["--disable_level"] = disable_level_name(disable_level);
  f["--disable_threshold"] = fmt::format("{}", disable_threshold);
  // Of practices of msModelSlim v1.
  std::string practice;
  if (flex && flex->exponents)
    practice += fmt::format("flex {} {} ", flex->exponents->first, flex->exponents->second);
  if (flex) practice += fmt::format("flex {} {} ", flex->o_kept_below, flex->as_v1);
  for (const auto& [name, type] : types) practice += name + " " + scheme_name(type) + " ";
  if (smooth)
    practice += fmt::format("smooth {} {} {} {} {} ", smooth->after_norm, smooth->from_v,
                            smooth->from_up, words(smooth->sources), words(smooth->alpha));
  practice += fmt::format("range {} {} ", range_rule.extremes, range_rule.symmetric);
  practice += fmt::format("rotate {}, {} ", words(rotations.residual), words(rotations.values));
  if (key_smooth)
    practice += fmt::format("keys {} {}", key_smooth->power, words(key_smooth->attention));
  f["practice"] = hex(fnv1a(practice));
}

}  // namespace

const char* program_version() { return OCTET_VERSION; }

std::string tokens_hash(const std::vector<TokenBatch>& batches) {
  uint64_t hash = fnv1a("");
  for (const TokenBatch& batch : batches) {
    hash = fnv1a("batch", hash);
    for (const std::vector<int32_t>& ids : batch) {
      hash = fnv1a("sequence", hash);
      hash = fnv1a({reinterpret_cast<const char*>(ids.data()), ids.size() * sizeof(int32_t)}, hash);
    }
  }
  return hex(hash);
}

Fingerprint fingerprint_of(const ModelFolder& folder, const CalibrationData& data,
                           const OutputSettings& output,
                           const std::variant<ToolMethod, Recipe>& method) {
  Fingerprint f;
  add_output(output, f);
  if (const Recipe* recipe = std::get_if<Recipe>(&method))
    add_recipe(*recipe, f);
  else
    add_tool(std::get<ToolMethod>(method), f);
  f["version of octet"] = program_version();
  f["instruction set"] = isa_name(selected_isa());
  f["config.json of the model"] = hex(fnv1a(folder.config().raw.dump()));
  for (const auto& file : folder.tensors().files())
    f[file->path().filename().string() + " of the model"] =
        fmt::format("{} bytes, time {}", fs::file_size(file->path()),
                    fs::last_write_time(file->path()).time_since_epoch().count());
  f["calibration text"] = tokens_of(data.samples);
  f["--anti_calib_file"] = tokens_of(data.outlier);
  return f;
}

}  // namespace octet
