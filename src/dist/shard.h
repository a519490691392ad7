// Which share of a model a rank computes (tensor parallelism).
//
// q/k/v, gate and up are cut by output rows, o and down by input columns, the head by rows of the
// vocabulary. The unit of attention is one query head, so the ranks may have unequal shares and any
// number of ranks up to the number of query heads works; a KV head is on every rank that has one of
// its query heads. The unit of the MLP is kColumnUnit columns.
#pragma once

#include <cstddef>
#include <vector>

#include "src/checkpoint/model_config.h"

namespace octet {

struct Extent {
  size_t begin = 0, end = 0;
  size_t size() const { return end - begin; }
  bool operator==(const Extent&) const = default;
};

inline constexpr size_t kColumnUnit = 32;  // of the MLP
inline constexpr size_t kVocabUnit = 64;   // rows of the head

struct Shard {
  size_t rank = 0, ranks = 1;
  Extent heads, kv_heads;  // of the model
  Extent columns;          // of intermediate_size
  Extent vocab;            // rows of the head

  bool whole() const { return ranks == 1; }
  // Of a side of a layer's tensors, and of the head's rows: what this rank has of it.
  Extent extent(Axis axis, const ModelConfig& config) const;
};

// The shard of `rank` of `ranks`. Throws kUsage Error when there are more ranks than query heads.
Shard make_shard(const ModelConfig& config, size_t rank, size_t ranks);
inline Shard whole_model(const ModelConfig& config) { return make_shard(config, 0, 1); }

// The sizes of one rank's share: what forward steps, buffers and KV pages are made for.
struct RankShape {
  RankShape(const ModelConfig& config, const Shard& shard);
  RankShape(const ModelConfig& config);  // NOLINT: the whole model

  size_t layers, hidden, head_dim, heads, kv_heads, intermediate;
  std::vector<Extent> queries;  // [kv_heads] the query heads, of this rank's, that read each

  size_t q_size() const { return heads * head_dim; }
  size_t kv_size() const { return kv_heads * head_dim; }
};

}  // namespace octet
