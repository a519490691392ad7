#include "src/model/kv_cache.h"

namespace octet {

kernels::FloatType kv_type(const ModelFolder& folder, kernels::FloatType otherwise) {
  return folder.int8_kv() ? kernels::FloatType::kI8 : otherwise;
}

KvCache::KvCache(const RankShape& shape, size_t blocks, kernels::FloatType type)
    : BlockPool(blocks),
      page_elements_(shape.kv_size() * kBlockTokens),
      layer_bytes_(blocks * page_elements_ * kernels::float_type_size(type)),
      type_(type),
      k_(layer_bytes_ * shape.layers),
      v_(layer_bytes_ * shape.layers) {}

uint64_t KvCache::block_bytes(const RankShape& shape, kernels::FloatType type) {
  return 2 * uint64_t{shape.layers} * shape.kv_size() * kBlockTokens *
         kernels::float_type_size(type);
}

}  // namespace octet
