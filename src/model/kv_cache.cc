#include "src/model/kv_cache.h"

#include "src/base/checked.h"

namespace octet {

kernels::FloatType kv_type(const ModelFolder& folder, kernels::FloatType otherwise) {
  return folder.int8_kv() ? kernels::FloatType::kI8 : otherwise;
}

KvCache::KvCache(const RankShape& shape, size_t blocks, kernels::FloatType type)
    : blocks_(blocks),
      page_elements_(shape.kv_size() * kBlockTokens),
      layer_bytes_(blocks * page_elements_ * kernels::float_type_size(type)),
      type_(type),
      k_(layer_bytes_ * shape.layers),
      v_(layer_bytes_ * shape.layers) {
  OCTET_CHECK(blocks < size_t{1} << 31);
  for (size_t b = blocks; b > 0; --b) free_.push_back(static_cast<int32_t>(b - 1));
}

uint64_t KvCache::block_bytes(const RankShape& shape, kernels::FloatType type) {
  return 2 * uint64_t{shape.layers} * shape.kv_size() * kBlockTokens *
         kernels::float_type_size(type);
}

bool KvCache::allocate(size_t count, std::vector<int32_t>& out) {
  if (count > free_.size()) return false;
  out.insert(out.end(), free_.rbegin(), free_.rbegin() + static_cast<ptrdiff_t>(count));
  free_.resize(free_.size() - count);
  return true;
}

void KvCache::release(std::vector<int32_t>& blocks) {
  free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
  OCTET_CHECK(free_.size() <= blocks_);
  blocks.clear();
}

}  // namespace octet
