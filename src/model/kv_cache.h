// The paged KV cache: pages of kernels::kBlockTokens tokens for every layer, handed out by number.
#pragma once

#include <cstdint>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/dist/shard.h"
#include "src/kernels/kernels.h"
#include "src/machine/memory.h"

namespace octet {

inline constexpr size_t kBlockTokens = kernels::kBlockTokens;

// The type of a checkpoint's pages: int8 when it has scales for that, `otherwise` when it has not.
kernels::FloatType kv_type(const ModelFolder& folder, kernels::FloatType otherwise);

class KvCache {
 public:
  // `blocks` pages; a page number stands for the same tokens in every layer.
  KvCache(const RankShape& shape, size_t blocks, kernels::FloatType type);

  // Bytes that one page costs over all layers.
  static uint64_t block_bytes(const RankShape& shape, kernels::FloatType type);

  size_t blocks() const { return blocks_; }
  size_t free_blocks() const { return free_.size(); }
  bool allocate(size_t count, std::vector<int32_t>& out);  // appends; false (and nothing) if short
  void release(std::vector<int32_t>& blocks);              // gives all back and clears the list

  kernels::FloatType type() const { return type_; }
  size_t page_elements() const { return page_elements_; }
  void* k_pool(size_t layer) { return k_.data() + layer * layer_bytes_; }
  void* v_pool(size_t layer) { return v_.data() + layer * layer_bytes_; }

 private:
  size_t blocks_, page_elements_, layer_bytes_;
  kernels::FloatType type_;
  Buffer<uint8_t> k_, v_;
  std::vector<int32_t> free_;
};

inline size_t blocks_for(size_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

}  // namespace octet
