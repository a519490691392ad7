#include "src/dist/shard.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/error.h"

namespace octet {
namespace {

// The rank's share of n in whole units, the shares as equal as they can be.
Extent part(size_t n, size_t unit, size_t rank, size_t ranks) {
  const size_t units = (n + unit - 1) / unit;
  const auto cut = [&](size_t r) { return std::min(n, units * r / ranks * unit); };
  return {cut(rank), cut(rank + 1)};
}

}  // namespace

Shard make_shard(const ModelConfig& c, size_t rank, size_t ranks) {
  const size_t heads = as_size(c.heads), group = as_size(c.heads / c.kv_heads);
  const size_t columns = as_size(c.intermediate_size);
  const size_t most = std::min(heads, (columns + kColumnUnit - 1) / kColumnUnit);
  OCTET_CHECK(rank < ranks);
  if (ranks > std::max(most, size_t{1}))
    throw usage_error("more ranks than this model can be divided into")
        .field("--tensor-parallel-size")
        .expected(fmt::format("1 to {}", most))
        .found(std::to_string(ranks))
        .remedy(
            fmt::format("the model has {} query heads and {} MLP columns, of which a rank needs "
                        "one and {} at least",
                        heads, columns, kColumnUnit));
  Shard s;
  s.rank = rank;
  s.ranks = ranks;
  s.heads = part(heads, 1, rank, ranks);
  s.kv_heads = {s.heads.begin / group, (s.heads.end - 1) / group + 1};
  s.columns = part(columns, kColumnUnit, rank, ranks);
  s.vocab = part(as_size(c.vocab_size), kVocabUnit, rank, ranks);
  return s;
}

Extent Shard::extent(Axis axis, const ModelConfig& c) const {
  const size_t width = as_size(c.head_dim);
  switch (axis) {
    case Axis::kQuery:
      return {heads.begin * width, heads.end * width};
    case Axis::kKeyValue:
      return {kv_heads.begin * width, kv_heads.end * width};
    case Axis::kIntermediate:
      return columns;
    case Axis::kVocab:
      return vocab;
    case Axis::kHidden:
    case Axis::kHeadDim:
      return {0, axis_size(c, axis)};
  }
  OCTET_CHECK(false);
}

RankShape::RankShape(const ModelConfig& c, const Shard& s)
    : layers(as_size(c.layers)),
      hidden(as_size(c.hidden_size)),
      head_dim(as_size(c.head_dim)),
      heads(s.heads.size()),
      kv_heads(s.kv_heads.size()),
      intermediate(s.columns.size()) {
  const size_t group = as_size(c.heads / c.kv_heads);
  for (size_t kv = s.kv_heads.begin; kv < s.kv_heads.end; ++kv)
    queries.push_back({std::max(kv * group, s.heads.begin) - s.heads.begin,
                       std::min((kv + 1) * group, s.heads.end) - s.heads.begin});
}

RankShape::RankShape(const ModelConfig& c) : RankShape(c, whole_model(c)) {}

}  // namespace octet
