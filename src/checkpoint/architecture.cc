#include "src/checkpoint/architecture.h"

#include <fmt/format.h>

#include <charconv>
#include <cstring>
#include <string_view>
#include <system_error>

#include "src/base/error.h"
#include "src/checkpoint/model_config.h"

namespace octet {
namespace {

using enum Axis;
using Linear = LinearKind;
using Norm = NormKind;

// The last two: rotated by rope, kept in the KV cache.
constexpr LinearRow kLinearRows[] = {
    {Linear::kQ, "self_attn.q_proj", kQuery, kHidden, BiasGroup::kQkv, LayerPart::kQkv, "attn_q",
     true, false},
    {Linear::kK, "self_attn.k_proj", kKeyValue, kHidden, BiasGroup::kQkv, LayerPart::kQkv, "attn_k",
     true, true},
    {Linear::kV, "self_attn.v_proj", kKeyValue, kHidden, BiasGroup::kQkv, LayerPart::kQkv, "attn_v",
     false, true},
    {Linear::kO, "self_attn.o_proj", kHidden, kQuery, BiasGroup::kO, LayerPart::kO, "attn_output",
     false, false},
    {Linear::kGate, "mlp.gate_proj", kIntermediate, kHidden, BiasGroup::kMlp, LayerPart::kGateUp,
     "ffn_gate", false, false},
    {Linear::kUp, "mlp.up_proj", kIntermediate, kHidden, BiasGroup::kMlp, LayerPart::kGateUp,
     "ffn_up", false, false},
    {Linear::kDown, "mlp.down_proj", kHidden, kIntermediate, BiasGroup::kMlp, LayerPart::kDown,
     "ffn_down", false, false}};
static_assert(std::size(kLinearRows) == kLinearKinds);

constexpr NormRow kNormRows[] = {
    {Norm::kInput, "input_layernorm", kHidden, "attn_norm", false},
    {Norm::kPostAttention, "post_attention_layernorm", kHidden, "ffn_norm", false},
    {Norm::kQuery, "self_attn.q_norm", kHeadDim, "attn_q_norm", true},
    {Norm::kKey, "self_attn.k_norm", kHeadDim, "attn_k_norm", true}};
static_assert(std::size(kNormRows) == kNormKinds);

constexpr PartRow kPartRows[] = {{LayerPart::kQkv, "q/k/v", Norm::kInput, {}},
                                 {LayerPart::kO, "o", {}, Linear::kV},
                                 {LayerPart::kGateUp, "gate/up", Norm::kPostAttention, {}},
                                 {LayerPart::kDown, "down", {}, Linear::kUp}};
static_assert(std::size(kPartRows) == kLayerParts);

constexpr Architecture kArchitectures[] = {
    {
        .family = Family::kLlama,
        .model_type = "llama",
        .class_name = "LlamaForCausalLM",
        .models = "LLaMA 2/3/3.1/3.2",
        .qkv_bias = false,
        .attention_bias = true,
        .mlp_bias = true,
        .extra_biases = true,
        .qk_norm = false,
        .windows = false,
        .head_dim = 0,
        .gguf_interleaved = true,
        .tool_type = "llama2",
        .tokenizer = "LlamaTokenizer",
        .late_kv_offset = true,
    },
    {
        .family = Family::kQwen2,
        .model_type = "qwen2",
        .class_name = "Qwen2ForCausalLM",
        .models = "Qwen2/2.5",
        .qkv_bias = true,
        .attention_bias = false,
        .mlp_bias = false,
        .extra_biases = true,
        .qk_norm = false,
        .windows = true,
        .head_dim = 0,
        .gguf_interleaved = false,
        .tool_type = "qwen2",
        .tokenizer = "Qwen2Tokenizer",
        .late_kv_offset = true,
    },
    {
        .family = Family::kQwen3,
        .model_type = "qwen3",
        .class_name = "Qwen3ForCausalLM",
        .models = "Qwen3",
        .qkv_bias = false,
        .attention_bias = true,
        .mlp_bias = false,
        .extra_biases = false,
        .qk_norm = true,
        .windows = true,
        .head_dim = 128,
        .gguf_interleaved = false,
        .tool_type = "qwen3",
        .tokenizer = "Qwen2Tokenizer",
        .late_kv_offset = false,
    },
};

uint64_t unsigned_of(int64_t v) { return static_cast<uint64_t>(v); }

}  // namespace

std::span<const LinearRow> linear_rows() { return kLinearRows; }
std::span<const NormRow> norm_rows() { return kNormRows; }
std::span<const PartRow> part_rows() { return kPartRows; }
std::span<const Architecture> architectures() { return kArchitectures; }

const PartRow& part_row(LayerPart part) { return kPartRows[static_cast<size_t>(part)]; }

const Architecture& architecture(Family family) {
  for (const Architecture& a : kArchitectures)
    if (a.family == family) return a;
  OCTET_CHECK(false);
}

const Architecture* find_architecture(const std::string& model_type) {
  for (const Architecture& a : kArchitectures)
    if (model_type == a.model_type) return &a;
  return nullptr;
}

std::string model_types() {
  std::string all;
  const size_t count = std::size(kArchitectures);
  for (size_t i = 0; i < count; ++i)
    all += fmt::format("{}{}",
                       i == 0           ? ""
                       : i + 1 == count ? " or "
                                        : ", ",
                       kArchitectures[i].model_type);
  return all;
}

std::string source_name(int64_t layer, LayerPart part) {
  const PartRow& row = part_row(part);
  return layer_prefix(layer) + (row.norm ? kNormRows[static_cast<size_t>(*row.norm)].name
                                         : kLinearRows[static_cast<size_t>(*row.source)].name);
}

uint64_t axis_size(const ModelConfig& c, Axis axis) {
  switch (axis) {
    case kHidden:
      return unsigned_of(c.hidden_size);
    case kQuery:
      return unsigned_of(c.q_size());
    case kKeyValue:
      return unsigned_of(c.kv_size());
    case kIntermediate:
      return unsigned_of(c.intermediate_size);
    case kVocab:
      return unsigned_of(c.vocab_size);
    case kHeadDim:
      return unsigned_of(c.head_dim);
  }
  OCTET_CHECK(false);
}

bool has_bias(const ModelConfig& c, BiasGroup group) {
  switch (group) {
    case BiasGroup::kQkv:
      return c.qkv_bias;
    case BiasGroup::kO:
      return c.o_bias;
    case BiasGroup::kMlp:
      return c.mlp_bias;
    case BiasGroup::kNone:
      return false;
  }
  OCTET_CHECK(false);
}

std::vector<LayerLinear> layer_linears(const ModelConfig& config, int64_t layer) {
  std::vector<LayerLinear> all;
  const std::string prefix = layer_prefix(layer);
  for (const LinearRow& row : kLinearRows)
    all.push_back({row,
                   prefix + row.name,
                   {axis_size(config, row.rows), axis_size(config, row.columns),
                    has_bias(config, row.bias)}});
  return all;
}

std::vector<LayerLinear> layer_linears(const ModelConfig& config, int64_t layer, LayerPart part) {
  std::vector<LayerLinear> of_part;
  for (LayerLinear& l : layer_linears(config, layer))
    if (l.part == part) of_part.push_back(std::move(l));
  return of_part;
}

std::vector<std::string> linear_names(int64_t layer, LayerPart part) {
  std::vector<std::string> names;
  for (const LinearRow& row : kLinearRows)
    if (row.part == part) names.push_back(layer_prefix(layer) + row.name);
  return names;
}

std::vector<LayerNorm> layer_norms(const ModelConfig& config, int64_t layer) {
  std::vector<LayerNorm> all;
  const bool qk_norm = architecture(config.family).qk_norm;
  for (const NormRow& row : kNormRows)
    if (qk_norm || !row.of_heads)
      all.push_back({row, layer_prefix(layer) + row.name, axis_size(config, row.size)});
  return all;
}

LinearShape head_shape(const ModelConfig& c) {
  return {axis_size(c, kVocab), axis_size(c, kHidden), false};
}

std::vector<NamedLinear> linears_of(const ModelConfig& config) {
  std::vector<NamedLinear> all;
  for (int64_t layer = 0; layer < config.layers; ++layer)
    for (LayerLinear& l : layer_linears(config, layer))
      all.push_back({std::move(l.full_name), l.shape, l.rows, l.columns});
  all.push_back({kHead, head_shape(config), kVocab, kHidden});
  return all;
}

std::string layer_prefix(int64_t layer) { return fmt::format("model.layers.{}.", layer); }

std::optional<int64_t> layer_of(const std::string& tensor) {
  constexpr std::string_view kStart = "model.layers.";
  if (!tensor.starts_with(kStart)) return std::nullopt;
  int64_t layer = 0;
  const char* const end = tensor.data() + tensor.size();
  const auto [after, error] = std::from_chars(tensor.data() + kStart.size(), end, layer);
  if (error != std::errc() || after == end || *after != '.' || layer < 0) return std::nullopt;
  return layer;
}

const char* short_name(const LinearRow& row) { return std::strrchr(row.name, '.') + 1; }

const LinearRow* find_linear_row(const std::string& full_name) {
  if (!layer_of(full_name)) return nullptr;
  for (const LinearRow& row : kLinearRows)
    if (full_name.ends_with(row.name)) return &row;
  return nullptr;
}

}  // namespace octet
