// One decoder layer: norm, attention, norm, gated MLP, with residual adds.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "src/checkpoint/architecture.h"
#include "src/dist/shard.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/model/attention.h"
#include "src/model/linear.h"

namespace octet {

// RMSNorm: weight and bias [hidden], or [head_dim] of queries and keys; the bias may be empty
// (outlier suppression leaves one).
struct Norm {
  std::vector<float> weight, bias;
  float eps = 1e-6f;
  // y = norm(x) for rows [begin, end): x, y [m, hidden].
  void rows(const float* x, size_t begin, size_t end, float* y) const;
  // x [heads, weight.size()], in place; nothing for a norm that the family does not have.
  void heads(float* x, size_t heads) const;
};

// The norms of a layer, by NormKind; those that the family does not have are without weights.
class LayerNorms {
 public:
  Norm& operator[](NormKind kind) { return norms_[static_cast<size_t>(kind)]; }
  const Norm& operator[](NormKind kind) const { return norms_[static_cast<size_t>(kind)]; }

 private:
  std::array<Norm, kNormKinds> norms_;
};

// Buffers of one forward step, for up to `rows` rows.
struct StepBuffers {
  StepBuffers(const RankShape& shape, size_t rows);
  size_t rows;
  Buffer<float> x;         // [rows, hidden] residual stream
  Buffer<float> h;         // [rows, hidden] normalized
  Buffer<float> qkv;       // [rows, q + 2 kv]
  Buffer<float> attn;      // [rows, q]
  Buffer<float> gate_up;   // [rows, 2 * intermediate]
  Buffer<float> cos, sin;  // [rows, head_dim / 2]
  StageBuffer stage;
  AttentionPlan attention;  // of the step: set before it
};

struct DecoderLayer {
  LayerNorms norms;
  std::unique_ptr<Linear> qkv{};  // columns q | k | v
  std::unique_ptr<Linear> o{};
  std::unique_ptr<Linear> gate_up{};  // columns gate | up
  std::unique_ptr<Linear> down{};
  KvCacheParams kv_params{};

  std::unique_ptr<Linear>& part(LayerPart part);
  uint64_t bytes() const { return qkv->bytes() + o->bytes() + gate_up->bytes() + down->bytes(); }
  // SPMD. b.x [m, hidden] in place; b.cos/b.sin hold the rows' angles, b.attention the chunks.
  // Appends to the KV cache. Starts and ends with all workers at a barrier. The four parts that
  // follow, one after another.
  void forward(Worker& w, const RankShape& shape, size_t m, const KvView& kv, StepBuffers& b) const;
  // b.x -> b.attn, the input of o [m, q].
  void attention(Worker& w, const RankShape& shape, size_t m, const KvView& kv,
                 StepBuffers& b) const;
  // b.x += o(b.attn).
  void attention_output(Worker& w, const RankShape& shape, size_t m, StepBuffers& b) const;
  // b.x -> the first `intermediate` columns of b.gate_up, the input of down. A worker returns when
  // its own rows w.share(m) are ready.
  void mlp(Worker& w, const RankShape& shape, size_t m, StepBuffers& b) const;
  // b.x += down(...).
  void mlp_output(Worker& w, const RankShape& shape, size_t m, StepBuffers& b) const;
};

}  // namespace octet
