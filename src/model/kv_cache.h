// The paged KV cache: pages of kernels::kBlockTokens tokens for every layer, handed out by number.
#pragma once

#include <cstdint>

#include "src/checkpoint/model_folder.h"
#include "src/dist/shard.h"
#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/model/block_pool.h"

namespace octet {

// The type of a checkpoint's pages: int8 when it has scales for that, `otherwise` when it has not.
kernels::FloatType kv_type(const ModelFolder& folder, kernels::FloatType otherwise);

class KvCache : public BlockPool {
 public:
  // `blocks` pages; a page number stands for the same tokens in every layer.
  KvCache(const RankShape& shape, size_t blocks, kernels::FloatType type);

  // Bytes that one page costs over all layers.
  static uint64_t block_bytes(const RankShape& shape, kernels::FloatType type);

  kernels::FloatType type() const { return type_; }
  size_t page_elements() const { return page_elements_; }
  void* k_pool(size_t layer) { return k_.data() + layer * layer_bytes_; }
  void* v_pool(size_t layer) { return v_.data() + layer * layer_bytes_; }

 private:
  size_t page_elements_, layer_bytes_;
  kernels::FloatType type_;
  Buffer<uint8_t> k_, v_;
};

}  // namespace octet
