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
#include "src/checkpoint/architecture.h"
#include "src/checkpoint/layout.h"
#include "src/checkpoint/model_config.h"
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

// A tensor of the checkpoint, and what its values go by.
struct MadeTensor {
  TensorSpec spec;
  std::string type;     // its word in the description
  uint64_t inputs = 0;  // of the linear that it belongs to
  bool of_norm = false;
};

// All of them, in order.
std::vector<MadeTensor> tensors_of(const ModelConfig& c, const WeightTypes& types) {
  std::vector<MadeTensor> all;
  const auto add_float = [&](const std::string& name, Shape shape) {
    all.push_back({{name, DType::kBF16, std::move(shape)}, kFloatWord});
  };
  const auto add_norm = [&](const std::string& prefix, uint64_t count) {
    add_float(prefix + ".weight", {count});
    all.back().of_norm = true;
  };
  const StoredTypes stored = {DType::kBF16, DType::kF32, DType::kF32};
  const auto add_parts = [&](const LayerLinear& l, std::span<const QuantTensor> parts,
                             const std::string& type) {
    for (const QuantTensor& part : parts)
      if (part.needed)
        all.push_back({{l.full_name + part.suffix, part.stored_as(stored), part.shape(l.shape.n)},
                       type,
                       l.shape.k});
  };
  const Shape table = {axis_size(c, Axis::kVocab), axis_size(c, Axis::kHidden)};
  add_float(kEmbeddingWeight, table);
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    for (const LayerLinear& l : layer_linears(c, layer)) {
      const std::string type = scheme_name(types.scheme);
      const DType dtype = is_quantized(types.scheme) ? DType::kI8 : DType::kBF16;
      all.push_back({{l.full_name + ".weight", dtype, {l.shape.n, l.shape.k}}, type, l.shape.k});
      if (l.shape.bias) add_float(l.full_name + ".bias", {l.shape.n});
      add_parts(l, scheme_row(types.scheme).tensors, type);
      if (types.int8_kv && l.in_kv_cache) add_parts(l, kv_cache_tensors(), kKvCacheWord);
    }
    for (const LayerNorm& norm : layer_norms(c, layer)) add_norm(norm.full_name, norm.count);
  }
  add_norm(kFinalNorm, axis_size(c, Axis::kHidden));
  if (!c.tie_word_embeddings) add_float(kHeadWeight, table);
  return all;
}

// The description's text. A tied head has no tensor, but an entry.
std::string description_of(const ModelConfig& c, const WeightTypes& types,
                           const std::vector<MadeTensor>& tensors) {
  TensorTypes words;
  for (const MadeTensor& t : tensors) words.emplace_back(t.spec.name, t.type);
  if (c.tie_word_embeddings) words.emplace_back(kHeadWeight, kFloatWord);
  return description_text(
      Layout::kOctet,
      make_description(Layout::kOctet, scheme_name(types.scheme), types.int8_kv, words));
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
void write_values(SafetensorsWriter& writer, const MadeTensor& tensor, std::mt19937& random) {
  const TensorSpec& spec = tensor.spec;
  const auto ends = [&](const char* suffix) { return spec.name.ends_with(suffix); };
  const size_t count = spec.bytes() / dtype_size(spec.dtype);
  const auto constant = [&](float v) { writer.write(spec.name, std::vector<float>(count, v)); };
  if (spec.dtype == DType::kI8)
    return writer.write(spec.name, normal_values<int8_t>(count, kLevels, random, [](float v) {
                          return static_cast<int8_t>(std::clamp(std::nearbyint(v), -127.f, 127.f));
                        }));
  if (spec.dtype == DType::kI32) return writer.write(spec.name, std::vector<int32_t>(count));
  const float k = static_cast<float>(tensor.inputs);
  if (ends(suffix::kWeightScale)) return constant(1 / std::sqrt(k) / kLevels);
  if (ends(suffix::kDeqScale)) return constant(kInputScale / std::sqrt(k) / kLevels);
  if (ends(suffix::kInputScale)) return constant(kInputScale);
  if (ends(suffix::kKvScale)) return constant(kCacheScale);
  if (spec.dtype == DType::kF32) return constant(0);  // offsets
  if (tensor.of_norm) return writer.write(spec.name, std::vector<bf16>(count, to_bf16(1.0f)));
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
  const std::vector<MadeTensor> tensors = tensors_of(parsed, types);
  std::vector<TensorSpec> specs;
  for (const MadeTensor& t : tensors) specs.push_back(t.spec);
  OutputFolder output(f.out, f.overwrite);
  SafetensorsWriter writer(output.path(), specs, {"model", uint64_t{5} << 30, true});
  Progress progress("make-model", "tensor", static_cast<int64_t>(specs.size()), f.quiet);
  std::mt19937 random(1);
  int64_t done = 0;
  for (const MadeTensor& t : tensors) {
    progress.update(done++, t.spec.name);
    write_values(writer, t, random);
  }
  writer.finish();
  write_text(output.path() / "config.json", config.dump(2));
  if (is_quantized(types.scheme) || types.int8_kv)
    write_text(output.path() / kDescriptionFile, description_of(parsed, types, tensors));
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
