#include "src/text/gguf_convert.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <optional>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/float16.h"
#include "src/base/json.h"
#include "src/base/output_folder.h"
#include "src/checkpoint/architecture.h"
#include "src/checkpoint/gguf.h"
#include "src/checkpoint/gguf_dequant.h"
#include "src/checkpoint/model_config.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/checkpoint/side_files.h"
#include "src/text/gguf_tokenizer.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

constexpr uint64_t kMaxLayers = 1024;

// The model's shape, from the metadata.
struct ModelShape {
  const Architecture* arch;  // model_type is also the prefix of its metadata
  uint64_t layers, hidden, intermediate, heads, kv_heads, head_size, context, vocab;
  double eps, rope_theta;
  bool tied;
  ordered_json rope_scaling;  // null: none
};

// One tensor of the checkpoint and where it comes from.
struct Mapping {
  std::string hf, gguf;
  Shape shape;         // [n, k] or [n]
  uint64_t heads = 0;  // not 0: rows of each head are stored interleaved
};

Error shape_error(const GgufFile& gguf, std::string field, std::string what) {
  return Error(std::move(what)).file(gguf.name()).field(std::move(field));
}

uint64_t get_uint_or(const GgufFile& gguf, const std::string& key, uint64_t fallback) {
  return gguf.has(key) ? gguf.get_uint(key) : fallback;
}

// Llama 3.1 and 3.2 files carry the frequency factors of their rope scaling, one per pair of
// elements, instead of the parameters. The parameters differ in `factor` alone, so both known sets
// are tried. Formula: `transformers`, rope type "llama3".
ordered_json llama3_scaling(const GgufFile& gguf, const ModelShape& shape) {
  const GgufTensor* stored = gguf.find_tensor("rope_freqs.weight");
  std::vector<float> found(stored->elements);
  gguf_dequantize(stored->type, gguf.bytes(*stored), found);
  constexpr double kLow = 1, kHigh = 4, kOriginal = 8192;
  for (const double factor : {8.0, 32.0}) {
    bool same = found.size() == shape.head_size / 2;
    for (size_t i = 0; same && i < found.size(); ++i) {
      const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(shape.head_size);
      const double wavelength = 2 * std::numbers::pi * std::pow(shape.rope_theta, exponent);
      const double smooth = (kOriginal / wavelength - kLow) / (kHigh - kLow);
      const double expected = wavelength < kOriginal / kHigh ? 1
                              : wavelength > kOriginal / kLow
                                  ? factor
                                  : 1 / ((1 - smooth) / factor + smooth);
      same = std::abs(static_cast<double>(found[i]) - expected) <= 1e-3 * expected;
    }
    if (same) {
      return {{"rope_type", "llama3"},
              {"factor", factor},
              {"low_freq_factor", kLow},
              {"high_freq_factor", kHigh},
              {"original_max_position_embeddings", static_cast<int>(kOriginal)}};
    }
  }
  throw Error("unknown rope scaling factors").file(gguf.name()).tensor("rope_freqs.weight");
}

ordered_json rope_scaling(const GgufFile& gguf, const ModelShape& shape) {
  if (gguf.find_tensor("rope_freqs.weight") != nullptr) return llama3_scaling(gguf, shape);
  const std::string key = shape.arch->model_type + std::string(".rope.scaling.type");
  if (!gguf.has(key) || gguf.get_string(key) == "none") return nullptr;
  const std::string type(gguf.get_string(key));
  throw shape_error(gguf, key, "unsupported rope scaling")
      .expected("none, or llama3's factors")
      .found(type);
}

ModelShape read_shape(const GgufFile& gguf) {
  ModelShape s;
  const std::string name(gguf.get_string("general.architecture"));
  s.arch = find_architecture(name);
  if (s.arch == nullptr) {
    throw shape_error(gguf, "general.architecture", "unsupported architecture")
        .expected(model_types())
        .found(name);
  }
  const std::string p = name + ".";
  if (gguf.has(p + "expert_count") && gguf.get_uint(p + "expert_count") > 0)
    throw shape_error(gguf, p + "expert_count", "models with experts are not supported");
  s.layers = gguf.get_uint(p + "block_count");
  s.hidden = gguf.get_uint(p + "embedding_length");
  s.intermediate = gguf.get_uint(p + "feed_forward_length");
  s.heads = gguf.get_uint(p + "attention.head_count");
  s.kv_heads = get_uint_or(gguf, p + "attention.head_count_kv", s.heads);
  s.context = gguf.get_uint(p + "context_length");
  s.eps = gguf.get_number(p + "attention.layer_norm_rms_epsilon");
  s.rope_theta = gguf.has(p + "rope.freq_base") ? gguf.get_number(p + "rope.freq_base") : 10000.0;
  if (s.layers == 0 || s.layers > kMaxLayers || s.heads == 0 || s.kv_heads == 0 ||
      s.heads % s.kv_heads != 0 || s.heads > UINT16_MAX || s.hidden > UINT32_MAX)
    throw shape_error(gguf, p + "attention.head_count", "the model's shape makes no sense");
  s.head_size = get_uint_or(gguf, p + "attention.key_length", s.hidden / s.heads);
  if (s.head_size == 0 || s.head_size % 2 != 0 || s.head_size > UINT16_MAX ||
      get_uint_or(gguf, p + "rope.dimension_count", s.head_size) != s.head_size ||
      get_uint_or(gguf, p + "attention.value_length", s.head_size) != s.head_size)
    throw shape_error(gguf, p + "rope.dimension_count", "unsupported size of attention heads");
  const GgufTensor* embedding = gguf.find_tensor("token_embd.weight");
  if (embedding == nullptr || embedding->dims.size() != 2)
    throw Error("the embedding is missing").file(gguf.name()).tensor("token_embd.weight");
  s.vocab = embedding->dims[1];
  s.tied = gguf.find_tensor("output.weight") == nullptr;
  s.rope_scaling = rope_scaling(gguf, s);
  return s;
}

// config.json's numbers, for the tables of the architecture.
ModelConfig config_of(const ModelShape& s) {
  ModelConfig c;
  c.family = s.arch->family;
  c.hidden_size = static_cast<int64_t>(s.hidden);
  c.intermediate_size = static_cast<int64_t>(s.intermediate);
  c.layers = static_cast<int64_t>(s.layers);
  c.heads = static_cast<int64_t>(s.heads);
  c.kv_heads = static_cast<int64_t>(s.kv_heads);
  c.head_dim = static_cast<int64_t>(s.head_size);
  c.vocab_size = static_cast<int64_t>(s.vocab);
  c.qkv_bias = s.arch->qkv_bias;
  return c;
}

// Every tensor that the architecture has, in the order of the forward pass.
std::vector<Mapping> mappings(const ModelShape& s) {
  const ModelConfig c = config_of(s);
  std::vector<Mapping> out;
  out.push_back({kEmbeddingWeight, "token_embd.weight", {s.vocab, s.hidden}});
  for (int64_t layer = 0; layer < c.layers; ++layer) {
    const std::string block = fmt::format("blk.{}.", layer);
    const std::vector<LayerNorm> norms = layer_norms(c, layer);
    for (const PartRow& row : part_rows()) {
      for (const LayerNorm& norm : norms)
        if (norm.kind == row.norm)
          out.push_back({norm.full_name + ".weight", block + norm.gguf + ".weight", {norm.count}});
      const std::vector<LayerLinear> linears = layer_linears(c, layer, row.part);
      for (const LayerLinear& l : linears) {
        const bool interleaved = s.arch->gguf_interleaved && l.rope;
        out.push_back({l.full_name + ".weight",
                       block + l.gguf + ".weight",
                       {l.shape.n, l.shape.k},
                       interleaved ? l.shape.n / s.head_size : 0});
      }
      for (const LayerLinear& l : linears)
        if (l.shape.bias)
          out.push_back({l.full_name + ".bias", block + l.gguf + ".bias", {l.shape.n}});
    }
    for (const LayerNorm& norm : norms)
      if (norm.of_heads)
        out.push_back({norm.full_name + ".weight", block + norm.gguf + ".weight", {norm.count}});
  }
  out.push_back({std::string(kFinalNorm) + ".weight", "output_norm.weight", {s.hidden}});
  if (!s.tied) out.push_back({kHeadWeight, "output.weight", {s.vocab, s.hidden}});
  return out;
}

// Each expected tensor is there with its shape, and no other is.
void check_tensors(const GgufFile& gguf, const std::vector<Mapping>& maps) {
  std::unordered_set<std::string_view> expected = {"rope_freqs.weight"};
  for (const Mapping& m : maps) {
    expected.insert(m.gguf);
    const GgufTensor* t = gguf.find_tensor(m.gguf);
    if (t == nullptr) throw Error("a tensor is missing").file(gguf.name()).tensor(m.gguf);
    if (Shape(t->dims.rbegin(), t->dims.rend()) != m.shape) {
      throw Error("wrong shape")
          .file(gguf.name())
          .tensor(m.gguf)
          .expected(fmt::format("[{}]", fmt::join(m.shape, ", ")))
          .found(fmt::format("[{}]", fmt::join(t->dims.rbegin(), t->dims.rend(), ", ")));
    }
  }
  for (const GgufTensor& t : gguf.tensors()) {
    if (!expected.contains(t.name)) {
      throw Error("the architecture has no such tensor")
          .file(gguf.name())
          .tensor(std::string(t.name));
    }
  }
}

ordered_json id_or_null(int32_t id) { return id < 0 ? ordered_json() : ordered_json(id); }

ordered_json ids_json(const std::vector<int32_t>& ids) {
  if (ids.empty()) return nullptr;
  return ids.size() == 1 ? ordered_json(ids[0]) : ordered_json(ids);
}

ordered_json config_json(const ModelShape& s, const GgufTokenIds& tokens, DType dtype) {
  ordered_json config = {
      {"architectures", ordered_json::array({s.arch->class_name})},
      {"model_type", s.arch->model_type},
      {"attention_dropout", 0.0},
      {"bos_token_id", id_or_null(tokens.bos)},
      {"eos_token_id", ids_json(tokens.end_of_text)},
      {"pad_token_id", id_or_null(tokens.pad)},
      {"head_dim", s.head_size},
      {"hidden_act", "silu"},
      {"hidden_size", s.hidden},
      {"initializer_range", 0.02},
      {"intermediate_size", s.intermediate},
      {"max_position_embeddings", s.context},
      {"num_attention_heads", s.heads},
      {"num_hidden_layers", s.layers},
      {"num_key_value_heads", s.kv_heads},
      {"rms_norm_eps", s.eps},
      {"rope_scaling", s.rope_scaling},
      {"rope_theta", s.rope_theta},
      {"tie_word_embeddings", s.tied},
      {"torch_dtype", dtype == DType::kBF16 ? "bfloat16" : "float16"},
      {"use_cache", true},
      {"vocab_size", s.vocab},
  };
  if (s.arch->attention_bias) config["attention_bias"] = false;
  if (s.arch->mlp_bias) config["mlp_bias"] = false;
  if (s.arch->windows) config["use_sliding_window"] = false;
  return config;
}

ordered_json generation_config_json(const GgufTokenIds& tokens) {
  ordered_json config = ordered_json::object();
  if (tokens.bos >= 0) config["bos_token_id"] = tokens.bos;
  if (!tokens.end_of_text.empty()) config["eos_token_id"] = ids_json(tokens.end_of_text);
  if (tokens.pad >= 0) config["pad_token_id"] = tokens.pad;
  return config;
}

// Row r of the checkpoint's tensor as a row of the file's: in a head, the file has element i of the
// first half beside element i of the second.
uint64_t source_row(uint64_t r, uint64_t rows, uint64_t heads) {
  if (heads == 0) return r;
  const uint64_t size = rows / heads, half = size / 2;
  const uint64_t head = r / size, in_head = r % size;
  return head * size + 2 * (in_head % half) + in_head / half;
}

// The tensor's elements [n, k] as 16-bit values in the checkpoint's order.
std::vector<uint16_t> convert_tensor(const GgufFile& gguf, const Mapping& m, DType dtype) {
  const GgufTensor& t = *gguf.find_tensor(m.gguf);
  const uint64_t k = t.dims[0], rows = t.elements / k;
  const uint64_t row_bytes = t.bytes / rows;
  const auto data = gguf.bytes(t);
  std::vector<uint16_t> out(t.elements);
  std::vector<float> row(k);
  for (uint64_t r = 0; r < rows; ++r) {
    const uint64_t source = source_row(r, rows, m.heads);
    gguf_dequantize(t.type, data.subspan(source * row_bytes, row_bytes), row);
    for (uint64_t i = 0; i < k; ++i) {
      const bool fits = dtype == DType::kBF16 ? std::isfinite(row[i]) : std::abs(row[i]) < 65520.0f;
      if (!fits) {
        throw Error("a value is not finite in the checkpoint's type")
            .file(gguf.name())
            .tensor(m.gguf)
            .expected(dtype == DType::kBF16 ? "finite" : "a magnitude below 65520 (float16)")
            .found(fmt::format("{}", row[i]));
      }
      out[r * k + i] = dtype == DType::kBF16 ? to_bf16(row[i]).bits : to_f16(row[i]).bits;
    }
  }
  return out;
}

void write_json(const fs::path& path, const ordered_json& value) {
  write_text(path, value.dump(2) + "\n");
}

}  // namespace

void convert_gguf(const std::filesystem::path& path, const std::filesystem::path& out_dir,
                  const GgufConvertOptions& options, const ConvertProgress& progress) {
  if (options.dtype != DType::kBF16 && options.dtype != DType::kF16)
    throw usage_error("the checkpoint's type must be bfloat16 or float16");
  const GgufFile gguf(path);
  const ModelShape shape = read_shape(gguf);
  const std::vector<Mapping> maps = mappings(shape);
  check_tensors(gguf, maps);
  const GgufTokenIds ids = gguf_token_ids(gguf);
  std::optional<GgufTokenizerFiles> tokens;
  if (options.tokenizer.empty())
    tokens = gguf_tokenizer(gguf);
  else
    expect_tokens_of(gguf, Tokenizer::load(options.tokenizer), options.tokenizer);

  OutputFolder folder(out_dir, options.overwrite);
  write_json(folder.path() / "config.json", config_json(shape, ids, options.dtype));
  write_json(folder.path() / "generation_config.json", generation_config_json(ids));
  if (tokens) {
    write_json(folder.path() / "tokenizer.json", tokens->tokenizer);
    write_json(folder.path() / "tokenizer_config.json", tokens->tokenizer_config);
    write_json(folder.path() / "special_tokens_map.json", tokens->special_tokens_map);
  } else {
    copy_side_files(options.tokenizer, folder.path());
  }

  std::vector<TensorSpec> specs;
  for (const Mapping& m : maps) specs.push_back({m.hf, options.dtype, m.shape});
  WriterOptions writer_options;
  writer_options.part_bytes = options.part_bytes;
  SafetensorsWriter writer(folder.path(), std::move(specs), writer_options);
  const auto total = static_cast<int64_t>(maps.size());
  for (int64_t i = 0; i < total; ++i) {
    const Mapping& m = maps[static_cast<size_t>(i)];
    if (progress) progress(i, total, m.hf);
    writer.write(m.hf, convert_tensor(gguf, m, options.dtype));
    gguf.release(*gguf.find_tensor(m.gguf));
  }
  writer.finish();
  folder.commit();
  if (progress) progress(total, total, "");
}

}  // namespace octet::text
