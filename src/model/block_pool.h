// Pages of the KV cache by number: who has which, without the memory behind them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/kernels.h"

namespace octet {

inline constexpr size_t kBlockTokens = kernels::kBlockTokens;

inline size_t blocks_for(size_t tokens) { return (tokens + kBlockTokens - 1) / kBlockTokens; }

class BlockPool {
 public:
  explicit BlockPool(size_t blocks);

  size_t blocks() const { return blocks_; }
  size_t free_blocks() const { return free_.size(); }
  bool allocate(size_t count, std::vector<int32_t>& out);  // appends; false (and nothing) if short
  void release(std::vector<int32_t>& blocks);              // gives all back and clears the list

 private:
  size_t blocks_;
  std::vector<int32_t> free_;
};

}  // namespace octet
