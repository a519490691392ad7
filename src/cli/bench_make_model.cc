// `octet bench make-model`: random weights in the shape of a known model, for speed and memory.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <memory>
#include <random>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/base/progress.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/cli/bench.h"

namespace octet::cli {
namespace {

struct NamedShape {
  const char* name;
  const char* family;  // config.json's model_type
  int64_t hidden, intermediate, layers, heads, kv_heads, vocab;
  bool tied;
  double theta;
};
constexpr std::array<NamedShape, 6> kShapes = {{
    {"qwen2.5-0.5b", "qwen2", 896, 4864, 24, 14, 2, 151936, true, 1e6},
    {"qwen2.5-1.5b", "qwen2", 1536, 8960, 28, 12, 2, 151936, true, 1e6},
    {"qwen2.5-7b", "qwen2", 3584, 18944, 28, 28, 4, 152064, false, 1e6},
    {"llama-3.2-1b", "llama", 2048, 8192, 16, 32, 8, 128256, true, 5e5},
    {"llama-3.1-8b", "llama", 4096, 14336, 32, 32, 8, 128256, false, 5e5},
    {"llama-3.1-70b", "llama", 8192, 28672, 80, 64, 8, 128256, false, 5e5},
}};

const NamedShape& find_shape(const std::string& name) {
  std::string known;
  for (const NamedShape& s : kShapes) {
    if (name == s.name) return s;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", s.name);
  }
  throw Error("unknown shape", ErrorKind::kUsage).field("--shape").expected(known).found(name);
}

ordered_json config_of(const NamedShape& s, int64_t layers) {
  ordered_json c;
  c["architectures"] = {std::string(s.family) == "qwen2" ? "Qwen2ForCausalLM" : "LlamaForCausalLM"};
  c["model_type"] = s.family;
  c["hidden_size"] = s.hidden;
  c["intermediate_size"] = s.intermediate;
  c["num_hidden_layers"] = layers;
  c["num_attention_heads"] = s.heads;
  c["num_key_value_heads"] = s.kv_heads;
  c["vocab_size"] = s.vocab;
  c["max_position_embeddings"] = 32768;
  c["rms_norm_eps"] = 1e-6;
  c["rope_theta"] = s.theta;
  c["hidden_act"] = "silu";
  c["tie_word_embeddings"] = s.tied;
  c["torch_dtype"] = "bfloat16";
  c["eos_token_id"] = 2;
  return c;
}

// All tensors of the float checkpoint, in order.
std::vector<TensorSpec> specs_of(const ModelConfig& c) {
  const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& name, Shape shape) {
    specs.push_back({name, DType::kBF16, std::move(shape)});
  };
  add("model.embed_tokens.weight", {u(c.vocab_size), u(c.hidden_size)});
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    for (LinearKind kind : kLinearKinds) {
      const LinearShape s = linear_shape(c, kind);
      add(linear_name(layer, kind) + ".weight", {s.n, s.k});
      if (s.bias) add(linear_name(layer, kind) + ".bias", {s.n});
    }
    add(layer_prefix(layer) + "input_layernorm.weight", {u(c.hidden_size)});
    add(layer_prefix(layer) + "post_attention_layernorm.weight", {u(c.hidden_size)});
  }
  add("model.norm.weight", {u(c.hidden_size)});
  if (!c.tie_word_embeddings) add("lm_head.weight", {u(c.vocab_size), u(c.hidden_size)});
  return specs;
}

// Normal numbers scaled so that outputs keep the inputs' size; norms are ones.
std::vector<bf16> values_of(const TensorSpec& spec, std::mt19937& random) {
  const size_t count = spec.bytes() / sizeof(bf16);
  if (spec.name.find("norm") != std::string::npos) return std::vector<bf16>(count, to_bf16(1.0f));
  const float deviation =
      spec.shape.size() == 2 ? 1.0f / std::sqrt(static_cast<float>(spec.shape[1])) : 0.02f;
  // A table of normal numbers drawn once: a 70B model is 7e10 of them.
  static const std::vector<float> table = [] {
    std::mt19937 seeded(7);
    std::normal_distribution<float> normal;
    std::vector<float> v(1 << 16);
    for (float& x : v) x = normal(seeded);
    return v;
  }();
  std::vector<bf16> v(count);
  for (bf16& x : v) x = to_bf16(table[random() & 0xffff] * deviation);
  return v;
}

struct Flags {
  std::string shape, out;
  int64_t layers = 0;
  bool overwrite = false, quiet = false;
};

void run(const Flags& f) {
  const NamedShape& shape = find_shape(f.shape);
  if (f.layers < 0 || f.layers > shape.layers)
    throw usage_error(fmt::format("--layers: expected 0 (all) to {}", shape.layers));
  const ordered_json config = config_of(shape, f.layers > 0 ? f.layers : shape.layers);
  const std::vector<TensorSpec> specs = specs_of(ModelConfig::parse(config, "config.json"));
  OutputFolder output(f.out, f.overwrite);
  SafetensorsWriter writer(output.path(), specs, {"model", uint64_t{5} << 30, true});
  Progress progress("make-model", "tensor", static_cast<int64_t>(specs.size()), f.quiet);
  std::mt19937 random(1);
  int64_t done = 0;
  for (const TensorSpec& spec : specs) {
    progress.update(done++, spec.name);
    writer.write(spec.name, values_of(spec, random));
  }
  writer.finish();
  write_text(output.path() / "config.json", config.dump(2));
  output.commit();
  progress.finish();
  if (!f.quiet) fmt::print("{}: {}\n", f.out, format_bytes(writer.total_bytes()));
}

}  // namespace

void add_bench_make_model(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("make-model", "random weights in a known model's shape");
  auto f = std::make_shared<Flags>();
  std::string names;
  for (const NamedShape& s : kShapes)
    names += fmt::format("{}{}", names.empty() ? "" : ", ", s.name);
  sub->add_option("--shape", f->shape, names)->required();
  sub->add_option("--out", f->out, "the folder to write")->required();
  sub->add_option("--layers", f->layers, "fewer layers than the model has");
  sub->add_flag("--overwrite", f->overwrite, "replace the folder if it exists");
  sub->add_flag("--quiet", f->quiet, "no progress");
  sub->callback([f] { run(*f); });
}

}  // namespace octet::cli
