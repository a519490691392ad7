#include "src/model/block_pool.h"

#include "src/base/error.h"

namespace octet {

BlockPool::BlockPool(size_t blocks) : blocks_(blocks) {
  OCTET_CHECK(blocks < size_t{1} << 31);
  for (size_t b = blocks; b > 0; --b) free_.push_back(static_cast<int32_t>(b - 1));
}

bool BlockPool::allocate(size_t count, std::vector<int32_t>& out) {
  if (count > free_.size()) return false;
  out.insert(out.end(), free_.rbegin(), free_.rbegin() + static_cast<ptrdiff_t>(count));
  free_.resize(free_.size() - count);
  return true;
}

void BlockPool::release(std::vector<int32_t>& blocks) {
  free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
  OCTET_CHECK(free_.size() <= blocks_);
  blocks.clear();
}

}  // namespace octet
