// What a decoder layer of each model family is made of: one table of linears and norms, with names,
// shapes, biases and the input that they share. Whatever reads or writes checkpoints loops over it;
// a new family is a row of kArchitectures (architecture.cc), and new rows of the other tables only
// where its layers have tensors that no other family's have.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace octet {

struct ModelConfig;

enum class Family { kLlama, kQwen2, kQwen3 };

enum class LinearKind { kQ, kK, kV, kO, kGate, kUp, kDown };
inline constexpr size_t kLinearKinds = 7;
enum class NormKind { kInput, kPostAttention, kQuery, kKey };
inline constexpr size_t kNormKinds = 4;

// The linears of a layer that read one input, in order of execution: loaders fuse them into one
// matrix, so they have one type and share the input's quantization.
enum class LayerPart { kQkv, kO, kGateUp, kDown };
inline constexpr size_t kLayerParts = 4;

// What the sides of tensors are: sizes of a model.
enum class Axis { kHidden, kQuery, kKeyValue, kIntermediate, kVocab, kHeadDim };
uint64_t axis_size(const ModelConfig& config, Axis axis);

// Which biases a family's linears have together, and config.json switches together.
enum class BiasGroup { kQkv, kO, kMlp, kNone };
bool has_bias(const ModelConfig& config, BiasGroup group);

// A linear of every layer: y [rows] = W [rows, columns] x [columns].
struct LinearRow {
  LinearKind kind;
  const char* name;  // below the layer: "self_attn.q_proj"
  Axis rows, columns;
  BiasGroup bias;
  LayerPart part;
  const char* gguf;  // GGUF's name below the block
  bool rope;         // its outputs are rotated, head by head
  bool in_kv_cache;  // its outputs are cached, with scales of its own in an int8 cache
};
std::span<const LinearRow> linear_rows();

// An RMS norm of every layer.
struct NormRow {
  NormKind kind;
  const char* name;  // "input_layernorm"
  Axis size;
  const char* gguf;
  bool of_heads;  // of every head's queries or keys before rope, in families with qk_norm
};
std::span<const NormRow> norm_rows();

// A part: how people call it, and what makes its input, from where a scale can be moved into it: a
// norm, or the rows of a linear.
struct PartRow {
  LayerPart part;
  const char* words;  // "q/k/v"
  std::optional<NormKind> norm;
  std::optional<LinearKind> source;
  bool after_norm() const { return norm.has_value(); }
};
std::span<const PartRow> part_rows();
const PartRow& part_row(LayerPart part);
// What makes the input of a part: "model.layers.3.input_layernorm", "model.layers.3.mlp.up_proj".
std::string source_name(int64_t layer, LayerPart part);

struct Architecture {
  Family family;
  const char* model_type;  // of config.json; GGUF's architecture has the same name
  const char* class_name;  // in config.json's `architectures`
  const char* models;      // for people
  bool qkv_bias;           // always; else as config.json's attention_bias says
  bool attention_bias;     // config.json's attention_bias counts: of q, k, v and o
  bool mlp_bias;           // config.json's mlp_bias counts
  bool extra_biases;       // vLLM takes biases beyond these: by those keys, or as LLaMA's class
  bool qk_norm;            // queries and keys are normalized head by head
  bool windows;            // config.json's use_sliding_window counts; else no class reads it
  int64_t head_dim;        // where config.json names none; 0 = hidden_size / heads
  bool gguf_interleaved;   // GGUF stores q and k with neighbours of rope's halves side by side
  const char* tool_type;   // --model_type of msModelSlim's scripts, where none is given
  const char* tokenizer;   // its class without "Fast", where no file names one
  bool late_kv_offset;     // vLLM-Ascend before 0.25.1 does not find kv_cache_offset
};
std::span<const Architecture> architectures();
const Architecture& architecture(Family family);
const Architecture* find_architecture(const std::string& model_type);  // null: not supported
std::string model_types();                                             // "llama, qwen2 or qwen3"

// Tensors outside the layers.
inline constexpr const char* kEmbeddingWeight = "model.embed_tokens.weight";
inline constexpr const char* kEmbedding = "model.embed_tokens";
inline constexpr const char* kFinalNorm = "model.norm";
inline constexpr const char* kHead = "lm_head";
inline constexpr const char* kHeadWeight = "lm_head.weight";
// Names of old checkpoints end so: rope's frequencies, which nobody reads.
inline constexpr const char* kRopeBuffer = "rotary_emb.inv_freq";

// Outputs n and inputs k of a linear, and whether it has a float bias.
struct LinearShape {
  uint64_t n, k;
  bool bias;
};

// A row for one layer of one model.
struct LayerLinear : LinearRow {
  std::string full_name;  // "model.layers.3.self_attn.q_proj"
  LinearShape shape;
};
struct LayerNorm : NormRow {
  std::string full_name;  // "model.layers.3.input_layernorm"
  uint64_t count;         // of its weights
};
std::vector<LayerLinear> layer_linears(const ModelConfig& config, int64_t layer);
std::vector<LayerLinear> layer_linears(const ModelConfig& config, int64_t layer, LayerPart part);
std::vector<std::string> linear_names(int64_t layer, LayerPart part);
std::vector<LayerNorm> layer_norms(const ModelConfig& config, int64_t layer);

// The linears with their shapes, layer by layer, then lm_head.
struct NamedLinear {
  std::string name;
  LinearShape shape;
  Axis rows, columns;
};
std::vector<NamedLinear> linears_of(const ModelConfig& config);
LinearShape head_shape(const ModelConfig& config);

std::string layer_prefix(int64_t layer);                     // "model.layers.3."
std::optional<int64_t> layer_of(const std::string& tensor);  // the 3 of such a name
const char* short_name(const LinearRow& row);                // "q_proj"
// The row of a linear by the end of its full name; null for others, lm_head among them.
const LinearRow* find_linear_row(const std::string& full_name);

}  // namespace octet
