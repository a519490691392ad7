// `octet bench make-model`: random weights in the shape of a known model, for speed and memory.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <random>
#include <span>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/base/output_folder.h"
#include "src/base/progress.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/checkpoint/scheme.h"
#include "src/cli/bench.h"
#include "src/cli/flags.h"
#include "src/cli/shapes.h"

namespace octet::cli {
namespace {

// What is written: the type of the linears in the layers, and whether pages are to be int8.
struct WeightTypes {
  Scheme scheme{};
  bool int8_kv = false;
};

// All tensors of the checkpoint, in order, each with its type word in `description`.
std::vector<TensorSpec> specs_of(const ModelConfig& c, const WeightTypes& types,
                                 DescriptionBuilder& description) {
  std::vector<TensorSpec> specs;
  const auto add = [&](const std::string& name, DType dtype, Shape shape, const std::string& type) {
    specs.push_back({name, dtype, std::move(shape)});
    description.add(name, type);
  };
  const auto add_float = [&](const std::string& name, Shape shape) {
    add(name, DType::kBF16, std::move(shape), kFloatWord);
  };
  const StoredTypes stored = {DType::kBF16, DType::kF32, DType::kF32};
  const auto add_parts = [&](const std::string& prefix, std::span<const QuantTensor> parts,
                             uint64_t n, const std::string& type) {
    for (const QuantTensor& part : parts)
      if (part.needed) add(prefix + part.suffix, part.stored_as(stored), part.shape(n), type);
  };
  const Shape table = {axis_size(c, Axis::kVocab), axis_size(c, Axis::kHidden)};
  add_float(kEmbeddingWeight, table);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    for (const LayerLinear& l : layer_linears(c, layer)) {
      const std::string type = scheme_name(types.scheme);
      add(l.full_name + ".weight", is_quantized(types.scheme) ? DType::kI8 : DType::kBF16,
          {l.shape.n, l.shape.k}, type);
      if (l.shape.bias) add_float(l.full_name + ".bias", {l.shape.n});
      add_parts(l.full_name, scheme_row(types.scheme).tensors, l.shape.n, type);
      if (types.int8_kv && l.in_kv_cache)
        add_parts(l.full_name, kv_cache_tensors(), l.shape.n, kKvCacheWord);
    }
    for (const LayerNorm& norm : layer_norms(c, layer))
      add_float(norm.full_name + ".weight", {norm.count});
  }
  add_float(std::string(kFinalNorm) + ".weight", {axis_size(c, Axis::kHidden)});
  if (c.tie_word_embeddings)
    description.add(kHeadWeight, kFloatWord);
  else
    add_float(kHeadWeight, table);
  return specs;
}

// `count` normal numbers with this deviation, converted; from a table drawn once, because a 70B
// model is 7e10 of them.
template <typename T, typename Convert>
std::vector<T> normal_values(size_t count, float deviation, std::mt19937& random, Convert convert) {
  static const std::vector<float> table = [] {
    std::mt19937 seeded(7);
    std::normal_distribution<float> normal;
    std::vector<float> v(1 << 16);
    for (float& x : v) x = normal(seeded);
    return v;
  }();
  std::vector<T> v(count);
  for (T& x : v) x = convert(table[random() & 0xffff] * deviation);
  return v;
}

constexpr float kLevels = 36;         // deviation of int8 weights: the largest of many are 127
constexpr float kInputScale = 0.04f;  // activations of deviation 1 up to 5
constexpr float kCacheScale = 0.04f;

// A normal linear's weights are scaled so that outputs keep the inputs' size; norms are ones.
void write_values(SafetensorsWriter& writer, const TensorSpec& spec, const ModelConfig& c,
                  std::mt19937& random) {
  const auto ends = [&](const char* suffix) { return spec.name.ends_with(suffix); };
  const size_t count = spec.bytes() / dtype_size(spec.dtype);
  const auto constant = [&](float v) { writer.write(spec.name, std::vector<float>(count, v)); };
  if (spec.dtype == DType::kI8)
    return writer.write(spec.name, normal_values<int8_t>(count, kLevels, random, [](float v) {
                          return static_cast<int8_t>(std::clamp(std::nearbyint(v), -127.f, 127.f));
                        }));
  if (spec.dtype == DType::kI32) return writer.write(spec.name, std::vector<int32_t>(count));
  const bool down = spec.name.find("down_proj") != std::string::npos;
  const float k = static_cast<float>(down ? c.intermediate_size : c.hidden_size);
  if (ends(suffix::kWeightScale)) return constant(1 / std::sqrt(k) / kLevels);
  if (ends(suffix::kDeqScale)) return constant(kInputScale / std::sqrt(k) / kLevels);
  if (ends(suffix::kInputScale)) return constant(kInputScale);
  if (ends(suffix::kKvScale)) return constant(kCacheScale);
  if (spec.dtype == DType::kF32) return constant(0);  // offsets
  if (spec.name.find("norm") != std::string::npos)
    return writer.write(spec.name, std::vector<bf16>(count, to_bf16(1.0f)));
  const float deviation =
      spec.shape.size() == 2 ? 1.0f / std::sqrt(static_cast<float>(spec.shape[1])) : 0.02f;
  writer.write(spec.name, normal_values<bf16>(count, deviation, random, to_bf16));
}

struct MakeModelFlags {
  std::string shape, out, type = kFloatWord;
  int64_t layers = 0;
  bool int8_kv = false, overwrite = false, quiet = false;
};

void make_model(const MakeModelFlags& f) {
  const ordered_json config = shape_config(f.shape, f.layers);
  const ModelConfig parsed = ModelConfig::parse(config, "config.json");
  const WeightTypes types = {scheme_of_flag(f.type), f.int8_kv};
  DescriptionBuilder description(f.type);
  if (types.int8_kv)
    for (const char* key : {"kv_cache_type", "kv_quant_type"}) description.add(key, kKvCacheWord);
  const std::vector<TensorSpec> specs = specs_of(parsed, types, description);
  OutputFolder output(f.out, f.overwrite);
  SafetensorsWriter writer(output.path(), specs, {"model", uint64_t{5} << 30, true});
  Progress progress("make-model", "tensor", static_cast<int64_t>(specs.size()), f.quiet);
  std::mt19937 random(1);
  int64_t done = 0;
  for (const TensorSpec& spec : specs) {
    progress.update(done++, spec.name);
    write_values(writer, spec, parsed, random);
  }
  writer.finish();
  write_text(output.path() / "config.json", config.dump(2));
  if (is_quantized(types.scheme) || types.int8_kv)
    write_text(output.path() / "quant_model_description.json", description.json().dump(2));
  output.commit();
  progress.finish();
  if (!f.quiet) fmt::print("{}: {}\n", f.out, format_bytes(writer.total_bytes()));
}

}  // namespace

void add_bench_make_model(Verb program) {
  const Verb verb = program.verb("make-model", "random weights in a known model's shape");
  auto f = std::make_shared<MakeModelFlags>();
  verb.text("--shape", f->shape, shape_names()).required();
  verb.text("--out", f->out, "the folder to write").required();
  verb.integer("--layers", f->layers, "fewer layers than the model has");
  verb.text("--type", f->type, "of the layers: " + scheme_names()).show_default();
  verb.toggle("--int8-kv", f->int8_kv, "with scales for an int8 KV cache");
  verb.toggle("--overwrite", f->overwrite, "replace the folder if it holds a model");
  verb.toggle("--quiet", f->quiet, "no progress");
  verb.run([f] { make_model(*f); });
}

}  // namespace octet::cli
