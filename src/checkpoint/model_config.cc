#include "src/checkpoint/model_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/base/json_member.h"
#include "src/base/output_folder.h"

namespace octet {
namespace {

constexpr int64_t kMaxVocab = int64_t{1} << 24;
// Inputs of a linear: 2^17 products of two int8 still fit an int32 sum.
constexpr int64_t kMaxInputs = (int64_t{1} << 17) - 1;

// Python makes no difference between 50 and 50.0 where files are written by hand.
int64_t get_whole(const json& object, const char* key, const std::string& where, int64_t lo,
                  int64_t hi) {
  if (const json* member = find_member(object, key); member != nullptr && member->is_number_float())
    if (const double v = member->get<double>(); v == std::floor(v) && std::fabs(v) < 0x1p53)
      return get_int({{key, static_cast<int64_t>(v)}}, key, where, lo, hi);
  return get_int(object, key, where, lo, hi);
}

// "eos_token_id" may be an integer, a list, or absent.
std::vector<int64_t> token_ids(const json& object, const char* key, const std::string& where) {
  std::vector<int64_t> ids;
  const json* member = find_member(object, key);
  if (member == nullptr) return ids;
  const json list = member->is_array() ? *member : json::array({*member});
  for (const json& id : list) {
    const json holder = {{key, id}};
    ids.push_back(get_whole(holder, key, where, -1, kMaxVocab));
  }
  return ids;
}

// The object under `key` ("rope_scaling"; transformers 5 puts everything into "rope_parameters"),
// or null.
const json* rope_object(const json& object, const char* key, const std::string& where) {
  const json* member = find_member(object, key);
  if (member != nullptr && !member->is_object())
    throw Error("bad value").file(where).field(key).expected("an object");
  return member;
}

std::optional<RopeScaling> rope_scaling(const json& s, const std::string& where) {
  const std::string type =
      get_string_or(s, "rope_type", get_string_or(s, "type", "default", where), where);
  if (type == "default") return std::nullopt;
  if (type != "llama3")
    throw Error("this kind of rope scaling is not supported")
        .file(where)
        .field("rope_type of rope_scaling or rope_parameters")
        .expected("llama3 or default")
        .found(type);
  RopeScaling r;
  r.factor = get_number(s, "factor", where);
  r.low_freq_factor = get_number(s, "low_freq_factor", where);
  r.high_freq_factor = get_number(s, "high_freq_factor", where);
  r.original_max_position =
      get_whole(s, "original_max_position_embeddings", where, 1, int64_t{1} << 32);
  if (!(r.factor > 0) || !(r.low_freq_factor > 0) || !(r.high_freq_factor > r.low_freq_factor))
    throw Error("bad value")
        .file(where)
        .field("rope_scaling")
        .expected("factor > 0 and high_freq_factor > low_freq_factor > 0");
  return r;
}

const Architecture& architecture_of(const json& object, const std::string& where) {
  const auto refused = [&](const char* field, const std::string& expected,
                           const std::string& found) {
    std::string models;
    for (const Architecture& a : architectures()) {
      const bool last = &a == &architectures().back();
      models += fmt::format("{}{}", models.empty() ? "" : last ? " and " : ", ", a.models);
    }
    return Error("this architecture is not supported")
        .file(where)
        .field(field)
        .expected(expected)
        .found(found.empty() ? "nothing" : found)
        .remedy("Octet serves " + models + " checkpoints");
  };
  const std::string type = get_string_or(object, "model_type", "", where);
  const Architecture* a = find_architecture(type);
  if (a == nullptr) throw refused("model_type", model_types(), type);
  if (const json* list = find_member(object, "architectures"))
    if (!list->is_array() || std::find(list->begin(), list->end(), a->class_name) == list->end())
      throw refused("architectures", a->class_name, list->dump().substr(0, 80));
  return *a;
}

// What transformers' classes with windows make of the fields: layers that look at `sliding_window`
// tokens only, those from `max_window_layers` on where `layer_types` does not name them. A window
// that holds the whole context is full attention.
void refuse_windows(const json& o, const ModelConfig& c, const std::string& where) {
  if (!architecture(c.family).windows) return;
  if (!get_bool_or(o, "use_sliding_window", false, where)) return;
  const auto window = o.find("sliding_window");
  if (window != o.end() && window->is_null()) return;
  if (get_int_or(o, "sliding_window", 4096, where, 1, int64_t{1} << 62) >= c.max_position) return;
  int64_t windowed = c.layers - get_int_or(o, "max_window_layers", 28, where, 0, int64_t{1} << 62);
  if (const json* types = find_member(o, "layer_types")) {
    if (!types->is_array())
      throw Error("bad value").file(where).field("layer_types").expected("a list");
    windowed = std::count(types->begin(), types->end(), "sliding_attention");
  }
  if (windowed <= 0) return;
  throw Error("sliding window attention is not supported")
      .file(where)
      .field("use_sliding_window")
      .expected("no layer with a window shorter than the context")
      .found(fmt::format("{} of {} layers", windowed, c.layers));
}

DType float_dtype(const json& object, const std::string& where) {
  std::string name =
      get_string_or(object, "torch_dtype", get_string_or(object, "dtype", "", where), where);
  if (name.starts_with("torch.")) name.erase(0, 6);
  if (name == "float16") return DType::kF16;
  if (name == "bfloat16") return DType::kBF16;
  if (name == "float32" || name.empty()) return DType::kF32;
  throw Error("bad value")
      .file(where)
      .field("torch_dtype")
      .expected("float16, bfloat16 or float32")
      .found(name);
}

}  // namespace

ModelConfig ModelConfig::load(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  std::error_code ec;
  if (!fs::is_directory(folder, ec))
    throw Error("is not a folder")
        .file(folder.string())
        .remedy("name a model folder with config.json, tokenizer.json and safetensors weights");
  if (!fs::exists(path, ec) && OutputFolder::is_partial(folder))
    throw Error("is an unfinished output, no model yet")
        .file(folder.string())
        .remedy("octet quantize with --resume goes on with it");
  if (!has_entry(path)) {
    const bool cache = fs::is_directory(folder / "snapshots", ec);
    throw Error("the model folder has no config.json")
        .file(folder.string())
        .remedy(cache
                    ? "this is the cache of a model of the hub: name a folder inside its snapshots/"
                    : "");
  }
  return parse(parse_ordered_json(read_text(path, uint64_t{64} << 20), path.string()),
               path.string());
}

ModelConfig ModelConfig::parse(const ordered_json& raw, const std::string& where) {
  if (!raw.is_object()) throw Error("is no JSON object").file(where);
  const json o = raw;
  ModelConfig c;
  c.raw = raw;
  for (const char* key : {"torch_dtype", "dtype", "quantization_config"})
    if (find_member(c.raw, key) == nullptr) c.raw.erase(key);
  // The key of compressed-tensors before 0.5, which transformers and vLLM read as well.
  if (!c.raw.contains("quantization_config") &&
      find_member(c.raw, "compression_config") != nullptr) {
    c.raw["quantization_config"] = c.raw["compression_config"];
    c.raw.erase("compression_config");
  }
  const Architecture& a = architecture_of(o, where);
  c.family = a.family;
  c.hidden_size = get_int(o, "hidden_size", where, 1, kMaxInputs);
  c.intermediate_size = get_int(o, "intermediate_size", where, 1, kMaxInputs);
  c.layers = get_int(o, "num_hidden_layers", where, 1, 4096);
  c.heads = get_int(o, "num_attention_heads", where, 1, 65536);
  c.kv_heads = get_int_or(o, "num_key_value_heads", c.heads, where, 1, 65536);
  if (c.heads % c.kv_heads != 0)
    throw Error("num_key_value_heads does not divide num_attention_heads")
        .file(where)
        .field("num_key_value_heads")
        .found(std::to_string(c.kv_heads) + " of " + std::to_string(c.heads));
  c.head_dim = get_int_or(o, "head_dim", a.head_dim, where, 0, 4096);
  if (c.head_dim == 0) {
    if (c.hidden_size % c.heads != 0)
      throw Error("num_attention_heads does not divide hidden_size")
          .file(where)
          .field("num_attention_heads");
    c.head_dim = c.hidden_size / c.heads;
  }
  if (c.head_dim % 2 != 0 || c.head_dim > 512)
    throw Error("bad value")
        .file(where)
        .field("head_dim")
        .expected("even and at most 512")
        .found(std::to_string(c.head_dim));
  c.vocab_size = get_int(o, "vocab_size", where, 1, kMaxVocab);
  c.max_position = get_int_or(o, "max_position_embeddings", 2048, where, 1, int64_t{1} << 32);
  c.rms_norm_eps = get_number_or(o, "rms_norm_eps", 1e-6, where);
  const json* parameters = rope_object(o, "rope_parameters", where);
  if (!(c.rms_norm_eps > 0 && c.rms_norm_eps < 1))
    throw Error("bad value")
        .file(where)
        .field("rms_norm_eps")
        .expected("above 0, below 1")
        .found(std::to_string(c.rms_norm_eps));
  c.rope_theta = get_number_or(
      o, "rope_theta",
      parameters == nullptr ? 10000 : get_number_or(*parameters, "rope_theta", 10000, where),
      where);
  if (!(c.rope_theta > 0)) throw Error("bad value").file(where).field("rope_theta").expected("> 0");
  const json* scaling = rope_object(o, "rope_scaling", where);
  if (scaling == nullptr) scaling = parameters;
  if (scaling != nullptr) c.rope_scaling = octet::rope_scaling(*scaling, where);
  if (c.q_size() > kMaxInputs)
    throw Error("too many heads")
        .file(where)
        .field("num_attention_heads")
        .expected("at most 131071 values in all heads");
  c.tie_word_embeddings = get_bool_or(o, "tie_word_embeddings", false, where);
  c.o_bias = a.attention_bias && get_bool_or(o, "attention_bias", false, where);
  c.qkv_bias = a.qkv_bias || c.o_bias;
  c.mlp_bias = a.mlp_bias && get_bool_or(o, "mlp_bias", false, where);
  refuse_windows(o, c, where);
  const std::string act = get_string_or(o, "hidden_act", "silu", where);
  if (act != "silu")
    throw Error("this activation is not supported")
        .file(where)
        .field("hidden_act")
        .expected("silu")
        .found(act);
  c.dtype = float_dtype(o, where);
  c.eos_token_ids = token_ids(o, "eos_token_id", where);
  return c;
}

const char* config_dtype_name(DType dtype) {
  switch (dtype) {
    case DType::kF16:
      return "float16";
    case DType::kBF16:
      return "bfloat16";
    default:
      return "float32";
  }
}

GenerationConfig GenerationConfig::load(const fs::path& folder) {
  GenerationConfig g;
  const fs::path path = folder / "generation_config.json";
  if (!has_entry(path)) return g;
  const std::string where = path.string();
  const json o = parse_json(read_text(path, 1 << 20), where);
  if (!o.is_object()) throw Error("is no JSON object").file(where);
  const auto number = [&](const char* key) -> std::optional<double> {
    if (find_member(o, key) == nullptr) return std::nullopt;
    return get_number(o, key, where);
  };
  const auto integer = [&](const char* key) -> std::optional<int64_t> {
    if (find_member(o, key) == nullptr) return std::nullopt;
    return get_whole(o, key, where, -1, kMaxVocab);
  };
  g.temperature = number("temperature");
  g.top_p = number("top_p");
  g.min_p = number("min_p");
  g.repetition_penalty = number("repetition_penalty");
  g.top_k = integer("top_k");
  g.max_new_tokens = integer("max_new_tokens");
  g.eos_token_ids = token_ids(o, "eos_token_id", where);
  return g;
}

}  // namespace octet
