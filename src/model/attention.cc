#include "src/model/attention.h"

#include <algorithm>
#include <cmath>

namespace octet {
namespace {

constexpr size_t kTokens = 32;        // query tokens of an item, at most
constexpr size_t kItemsAWorker = 24;  // so that whole items differ little between workers
// What reading and converting a key and a value costs, in rows of queries.
constexpr double kRowsOfReading = 2;

size_t blocks_of_keys(size_t keys) {
  return (keys + kernels::kAttentionBlock - 1) / kernels::kAttentionBlock;
}

// The weights of a softmax sum to one, so v's offset and scale may follow the sum. out [tokens,
// ldo] points to the first query head's.
void unscale_values(const KvCacheParams& scales, const AttentionPlan::Item& item, size_t group,
                    size_t hd, float* out, size_t ldo) {
  const float* scale = scales.v_scale.data() + item.kv_head * hd;
  const float* offset = scales.v_offset.data() + item.kv_head * hd;
  for (size_t i = 0; i < item.tokens * group; ++i)
    for (size_t d = 0; d < hd; ++d) {
      float& v = out[i / group * ldo + i % group * hd + d];
      v = (v - offset[d]) * scale[d];
    }
}

}  // namespace

void AttentionPlan::set(const RankShape& shape, const std::vector<SequenceChunk>& chunks,
                        size_t workers) {
  chunks_ = chunks;
  list_items(shape, workers);
  share_out(shape, workers);
  size_t states = 0, cuts = 0;
  for (Item& item : items_) {
    if (item.pieces < 2) continue;
    item.cut = cuts++;
    item.states = states;
    states += item.blocks * item.tokens * shape.queries[item.kv_head].size() * (shape.head_dim + 2);
  }
  states_.ensure(states);
  if (cuts > ready_size_) {
    ready_ = std::make_unique<std::atomic<uint32_t>[]>(cuts);
    ready_size_ = cuts;
  }
}

void AttentionPlan::list_items(const RankShape& shape, size_t workers) {
  const auto count = [&](size_t tile) {
    size_t items = 0;
    for (const SequenceChunk& s : chunks_) items += (s.tokens + tile - 1) / tile;
    return items * shape.kv_heads;
  };
  size_t tile = kTokens;
  while (tile > 1 && count(tile) < kItemsAWorker * workers) tile /= 2;
  items_.clear();
  for (size_t c = 0; c < chunks_.size(); ++c)
    for (size_t first = 0; first < chunks_[c].tokens; first += tile)
      for (size_t head = 0; head < shape.kv_heads; ++head) {
        const size_t tokens = std::min(tile, chunks_[c].tokens - first);
        items_.push_back(
            {c, first, tokens, head, blocks_of_keys(chunks_[c].position + first + tokens)});
      }
}

double AttentionPlan::cost(const RankShape& shape, const Item& item, size_t begin,
                           size_t end) const {
  const size_t keys = chunks_[item.chunk].position + item.first + item.tokens;
  const size_t seen = std::min(end * kernels::kAttentionBlock, keys) -
                      std::min(begin * kernels::kAttentionBlock, keys);
  const auto rows = static_cast<double>(item.tokens * shape.queries[item.kv_head].size());
  return static_cast<double>(seen * 2 * shape.head_dim) * (rows + kRowsOfReading);
}

// Every worker takes what lies between two neighbouring bounds of the summed cost, rounded to whole
// items or, where they may be cut, to blocks.
void AttentionPlan::share_out(const RankShape& shape, size_t workers) {
  double total = 0, before = 0;
  for (const Item& item : items_) total += cost(shape, item, 0, item.blocks);
  pieces_.assign(workers, {});
  size_t worker = 0;
  for (size_t i = 0; i < items_.size(); ++i) {
    Item& item = items_[i];
    const double whole = cost(shape, item, 0, item.blocks);
    const size_t units = item.tokens == 1 ? item.blocks : 1;
    for (size_t done = 0; done < units;) {
      size_t end = units;
      if (worker + 1 < workers) {
        const double bound = total * static_cast<double>(worker + 1) / static_cast<double>(workers);
        const double share = std::round((bound - before) / whole * static_cast<double>(units));
        end = std::clamp(static_cast<size_t>(std::max(share, 0.0)), done, units);
      }
      if (end > done) {
        const size_t blocks = item.blocks / units;
        pieces_[worker].push_back({i, done * blocks, end * blocks});
        ++item.pieces;
      }
      done = end;
      if (done < units) ++worker;
    }
    before += whole;
  }
}

void AttentionPlan::compute(const Worker& w, const RankShape& shape, const KvView& kv,
                            const KvCacheParams& scales, const float* qkv, float* out) {
  const auto& t = kernels::table();
  const size_t hd = shape.head_dim, ld = shape.q_size() + 2 * shape.kv_size();
  const size_t ldo = shape.q_size();
  for (const Piece& piece : pieces_[w.id()]) {
    const Item& item = items_[piece.item];
    const SequenceChunk& s = chunks_[item.chunk];
    const size_t row = s.first_row + item.first;
    const size_t column = shape.queries[item.kv_head].begin * hd;
    kernels::AttentionArgs args = {.q = qkv + row * ld + column,
                                   .ldq = ld,
                                   .out = out + row * ldo + column,
                                   .ldo = ldo,
                                   .tokens = item.tokens,
                                   .position = s.position + item.first,
                                   .group = shape.queries[item.kv_head].size(),
                                   .kv_head = item.kv_head,
                                   .head_dim = hd,
                                   .k_pool = kv.k_pool,
                                   .v_pool = kv.v_pool,
                                   .page_elements = kv.page_elements,
                                   .blocks = s.blocks,
                                   .type = kv.type,
                                   .scale = 1.0f / std::sqrt(static_cast<float>(hd))};
    if (item.pieces == 1) {
      t.attention(args);
    } else {
      args.states = states_.data() + item.states;
      args.block_begin = piece.block_begin;
      args.block_end = piece.block_end;
      t.attention(args);
      // acq_rel: who completes the item sees what the others have written before they counted.
      if (ready_[item.cut].fetch_add(1, std::memory_order_acq_rel) + 1 < item.pieces) continue;
      ready_[item.cut].store(0, std::memory_order_relaxed);  // next read after a barrier
      args.block_end = item.blocks;
      t.attention_merge(args);
    }
    if (kv.type == kernels::FloatType::kI8)
      unscale_values(scales, item, args.group, hd, args.out, ldo);
  }
}

}  // namespace octet
