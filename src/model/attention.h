// The attention of a step: how its work is shared by the workers, the same for every layer, and the
// work itself.
//
// An item is a tile of query tokens of one sequence for the query heads of one KV head. Workers
// take items one after another, each as much work. An item of one token (while generating) may be
// cut between blocks of keys, so that few heads and long contexts keep many workers busy; the last
// of its workers adds the parts in the order of the keys (flash decoding). What is computed does
// not depend on who computes it (kernels::kAttentionBlock).
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/dist/shard.h"
#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"

namespace octet {

// A run of consecutive tokens of one sequence inside a batch.
struct SequenceChunk {
  size_t first_row = 0;  // in the batch
  size_t tokens = 0;
  size_t position = 0;              // of the first token
  const int32_t* blocks = nullptr;  // pages for [0, position + tokens)
  size_t generated = 0;             // of its last tokens: those that the model generated
};

// Where a layer's keys and values live.
struct KvView {
  void* k_pool;
  void* v_pool;
  size_t page_elements;
  kernels::FloatType type;
};

// An int8 KV cache holds q = sat8(rne(x / scale + offset)) for x = (q - offset) * scale, where x is
// a channel of K (after rope) or of V. All [kv_heads * head_dim]; empty for pages of floats.
struct KvCacheParams {
  std::vector<float> k_scale, k_offset, v_scale, v_offset;
};

class AttentionPlan {
 public:
  struct Item {
    size_t chunk;
    size_t first, tokens;  // of the chunk's tokens
    size_t kv_head;
    size_t blocks;      // of keys, kernels::kAttentionBlock each
    size_t pieces = 0;  // that it is cut into
    size_t cut = 0;     // number among those with several pieces
    size_t states = 0;  // first of its states in the buffer of them
  };
  // Blocks of keys of an item; all of them unless it is cut.
  struct Piece {
    size_t item;
    size_t block_begin, block_end;
  };

  // For the steps on these chunks, by `workers` workers; not beside a step.
  void set(const RankShape& shape, const std::vector<SequenceChunk>& chunks, size_t workers);

  const std::vector<SequenceChunk>& chunks() const { return chunks_; }
  const std::vector<Item>& items() const { return items_; }
  const std::vector<Piece>& pieces(size_t worker) const { return pieces_[worker]; }
  // Multiply-adds and what reading costs of blocks [begin, end) of an item, in multiply-adds.
  double cost(const RankShape& shape, const Item& item, size_t begin, size_t end) const;

  // SPMD: the worker's pieces. qkv [rows, q + 2 kv] holds rotated queries, out [rows, q].
  void compute(const Worker& w, const RankShape& shape, const KvView& kv,
               const KvCacheParams& scales, const float* qkv, float* out);

 private:
  void list_items(const RankShape& shape, size_t workers);
  void share_out(const RankShape& shape, size_t workers);

  std::vector<SequenceChunk> chunks_;
  std::vector<Item> items_;
  std::vector<std::vector<Piece>> pieces_;          // by worker
  std::unique_ptr<std::atomic<uint32_t>[]> ready_;  // pieces computed, by Item::cut
  size_t ready_size_ = 0;
  Buffer<float> states_;
};

}  // namespace octet
