#include "src/quant/layer/layer_stream.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/model/rope.h"

namespace octet {
namespace {

constexpr size_t kBatchRows = 1024;  // samples run together up to this many tokens

// SPMD. The first `columns` of the worker's share of the rows.
void copy_rows(Worker& w, const Rows& from, const Output& to, size_t columns) {
  const auto [begin, end] = w.share(from.m);
  for (size_t r = begin; r < end; ++r) std::copy_n(from.x + r * from.ld, columns, to.y + r * to.ld);
}

}  // namespace

StreamScratch::StreamScratch(const ModelConfig& config, const std::vector<size_t>& lengths,
                             ActivationMemory& memory)
    : most_intermediate_(static_cast<size_t>(config.intermediate_size)) {
  size_t longest = 0;
  for (size_t n : lengths) {
    longest = std::max(longest, n);
    tokens_ += n;
  }
  buffers_ =
      std::make_unique<StepBuffers>(config, std::min(tokens_, std::max(kBatchRows, longest)));
  normalized_ = memory.get(tokens_ * static_cast<size_t>(config.hidden_size));
  attended_ = memory.get(tokens_ * static_cast<size_t>(config.q_size()));
  activated_ = memory.get(tokens_ * most_intermediate_);
  const Rope rope(config);
  cos_.resize(longest * rope.half_dim());
  sin_.resize(longest * rope.half_dim());
  for (size_t t = 0; t < longest; ++t)
    rope.angles(t, cos_.data() + t * rope.half_dim(), sin_.data() + t * rope.half_dim());
}

LayerStream::LayerStream(const ModelConfig& config, const std::vector<size_t>& lengths,
                         kernels::FloatType kv, StreamScratch& scratch, ActivationMemory& memory,
                         ThreadTeam& team)
    : config_(config), scratch_(scratch), team_(team) {
  config_.layers = 1;
  for (size_t n : lengths) {
    if (batches_.empty() || batches_.back().rows + n > kBatchRows)
      batches_.push_back({tokens_, 0, {}});
    batches_.back().rows += n;
    batches_.back().lengths.push_back(n);
    tokens_ += n;
  }
  OCTET_CHECK(tokens_ > 0 && tokens_ <= scratch_.tokens_);
  size_t most_blocks = 0;
  for (const Batch& b : batches_) {
    size_t blocks = 0;
    for (size_t n : b.lengths) blocks += blocks_for(n);
    most_blocks = std::max(most_blocks, blocks);
  }
  cache_ = std::make_unique<KvCache>(config_, most_blocks, kv);
  states_ = memory.get(tokens_ * hidden());
}

void LayerStream::set_intermediate(size_t size) {
  OCTET_CHECK(size <= scratch_.most_intermediate_);
  config_.intermediate_size = static_cast<int64_t>(size);
}

const float* LayerStream::normalized(const Norm& norm) {
  team_.run([&](Worker& w) {
    const auto [begin, end] = w.share(tokens());
    norm.rows(states_.data(), begin, end, scratch_.normalized_.data());
  });
  return scratch_.normalized_.data();
}

void LayerStream::attention(const DecoderLayer& layer) {
  const size_t half = static_cast<size_t>(config_.head_dim / 2);
  const RankShape shape(config_);
  StepBuffers& b = *scratch_.buffers_;
  KvCache& cache = *cache_;
  const KvView kv{cache.k_pool(0), cache.v_pool(0), cache.page_elements(), cache.type()};
  for (const Batch& batch : batches_) {
    std::vector<SequenceChunk> chunks;
    std::vector<int32_t> blocks;
    for (size_t n : batch.lengths) OCTET_CHECK(cache.allocate(blocks_for(n), blocks));
    size_t row = 0, block = 0;
    for (size_t n : batch.lengths) {
      chunks.push_back({row, n, 0, blocks.data() + block});
      std::copy_n(scratch_.cos_.data(), n * half, b.cos.data() + row * half);
      std::copy_n(scratch_.sin_.data(), n * half, b.sin.data() + row * half);
      row += n;
      block += blocks_for(n);
    }
    b.attention.set(shape, chunks, team_.size());
    team_.run([&](Worker& w) {
      take_states(w, batch);
      layer.attention(w, shape, batch.rows, kv, b);
      copy_rows(w, {b.attn.data(), attended_size(), batch.rows},
                {first_row(scratch_.attended_, batch, attended_size()), attended_size()},
                attended_size());
    });
    scratch_.attended_.release_rows(batch.first_row * attended_size(),
                                    batch.rows * attended_size());
    cache.release(blocks);
  }
}

void LayerStream::attention_output(const DecoderLayer& layer) {
  const RankShape shape(config_);
  StepBuffers& b = *scratch_.buffers_;
  for (const Batch& batch : batches_) {
    team_.run([&](Worker& w) {
      take_states(w, batch);
      copy_rows(
          w, {first_row(scratch_.attended_, batch, attended_size()), attended_size(), batch.rows},
          {b.attn.data(), attended_size()}, attended_size());
      layer.attention_output(w, shape, batch.rows, b);
      keep_states(w, batch);
    });
    scratch_.attended_.release_rows(batch.first_row * attended_size(),
                                    batch.rows * attended_size());
    states_.release_rows(batch.first_row * hidden(), batch.rows * hidden());
  }
}

void LayerStream::mlp(const DecoderLayer& layer) {
  const size_t inter = intermediate();
  const RankShape shape(config_);
  StepBuffers& b = *scratch_.buffers_;
  for (const Batch& batch : batches_) {
    team_.run([&](Worker& w) {
      take_states(w, batch);
      layer.mlp(w, shape, batch.rows, b);
      copy_rows(w, {b.gate_up.data(), 2 * inter, batch.rows},
                {first_row(scratch_.activated_, batch, inter), inter}, inter);
    });
    scratch_.activated_.release_rows(batch.first_row * inter, batch.rows * inter);
  }
}

void LayerStream::mlp_output(const DecoderLayer& layer) {
  const size_t inter = intermediate();
  const RankShape shape(config_);
  StepBuffers& b = *scratch_.buffers_;
  for (const Batch& batch : batches_) {
    team_.run([&](Worker& w) {
      take_states(w, batch);
      copy_rows(w, {first_row(scratch_.activated_, batch, inter), inter, batch.rows},
                {b.gate_up.data(), 2 * inter}, inter);
      layer.mlp_output(w, shape, batch.rows, b);
      keep_states(w, batch);
    });
    scratch_.activated_.release_rows(batch.first_row * inter, batch.rows * inter);
    states_.release_rows(batch.first_row * hidden(), batch.rows * hidden());
  }
}

// The rows w.share(batch.rows), which are those that the layer's worker reads before a barrier.
void LayerStream::take_states(Worker& w, const Batch& batch) {
  copy_rows(w, {first_row(states_, batch, hidden()), hidden(), batch.rows},
            {scratch_.buffers_->x.data(), hidden()}, hidden());
}

void LayerStream::keep_states(Worker& w, const Batch& batch) {
  copy_rows(w, {scratch_.buffers_->x.data(), hidden(), batch.rows},
            {first_row(states_, batch, hidden()), hidden()}, hidden());
}

}  // namespace octet
