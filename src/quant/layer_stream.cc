#include "src/quant/layer_stream.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/model/rope.h"

namespace octet {
namespace {

constexpr size_t kBatchRows = 1024;  // samples run together up to this many tokens

}  // namespace

LayerStream::LayerStream(const ModelConfig& config, std::vector<size_t> lengths,
                         kernels::FloatType kv, ThreadTeam& team)
    : config_(config), team_(team) {
  config_.layers = 1;
  size_t longest = 0, most_rows = 0, most_blocks = 0;
  for (size_t n : lengths) {
    longest = std::max(longest, n);
    if (batches_.empty() || batches_.back().rows + n > kBatchRows)
      batches_.push_back({tokens_, 0, {}});
    batches_.back().rows += n;
    batches_.back().lengths.push_back(n);
    tokens_ += n;
  }
  OCTET_CHECK(tokens_ > 0);
  for (const Batch& b : batches_) {
    size_t blocks = 0;
    for (size_t n : b.lengths) blocks += blocks_for(n);
    most_rows = std::max(most_rows, b.rows);
    most_blocks = std::max(most_blocks, blocks);
  }
  buffers_ = std::make_unique<StepBuffers>(config_, most_rows);
  cache_ = std::make_unique<KvCache>(config_, most_blocks, kv);
  states_ = Buffer<float>(tokens_ * hidden());
  normalized_ = Buffer<float>(tokens_ * hidden());
  attended_ = Buffer<float>(tokens_ * static_cast<size_t>(config_.q_size()));
  activated_ = Buffer<float>(tokens_ * intermediate());
  const Rope rope(config_);
  cos_.resize(longest * rope.half());
  sin_.resize(longest * rope.half());
  for (size_t t = 0; t < longest; ++t)
    rope.angles(t, cos_.data() + t * rope.half(), sin_.data() + t * rope.half());
}

void LayerStream::set_intermediate(size_t size) {
  if (size == intermediate()) return;
  config_.intermediate_size = static_cast<int64_t>(size);
  activated_.ensure(tokens_ * size);
  buffers_ = std::make_unique<StepBuffers>(config_, buffers_->rows);
}

const float* LayerStream::normalized(const Norm& norm) {
  team_.run([&](Worker& w) {
    const auto [begin, end] = w.share(tokens_);
    norm.rows(states_.data(), begin, end, normalized_.data());
  });
  return normalized_.data();
}

void LayerStream::attention(const DecoderLayer& layer) {
  const size_t half = static_cast<size_t>(config_.head_dim / 2);
  const size_t q = static_cast<size_t>(config_.q_size());
  const KvView kv{cache_->k_pool(0), cache_->v_pool(0), cache_->page_elements(), cache_->type()};
  for (const Batch& batch : batches_) {
    std::vector<SequenceChunk> chunks;
    std::vector<int32_t> blocks;
    for (size_t n : batch.lengths) OCTET_CHECK(cache_->allocate(blocks_for(n), blocks));
    size_t row = 0, block = 0;
    for (size_t n : batch.lengths) {
      chunks.push_back({row, n, 0, blocks.data() + block});
      std::copy_n(cos_.data(), n * half, buffers_->cos.data() + row * half);
      std::copy_n(sin_.data(), n * half, buffers_->sin.data() + row * half);
      row += n;
      block += blocks_for(n);
    }
    std::copy_n(states_.data() + batch.first_row * hidden(), batch.rows * hidden(),
                buffers_->x.data());
    team_.run([&](Worker& w) { layer.attention(w, config_, chunks, batch.rows, kv, *buffers_); });
    std::copy_n(buffers_->attn.data(), batch.rows * q, attended_.data() + batch.first_row * q);
    cache_->release(blocks);
  }
}

void LayerStream::attention_output(const DecoderLayer& layer) {
  const size_t q = static_cast<size_t>(config_.q_size());
  for (const Batch& batch : batches_) {
    float* x = states_.data() + batch.first_row * hidden();
    std::copy_n(x, batch.rows * hidden(), buffers_->x.data());
    std::copy_n(attended_.data() + batch.first_row * q, batch.rows * q, buffers_->attn.data());
    team_.run([&](Worker& w) { layer.attention_output(w, config_, batch.rows, *buffers_); });
    std::copy_n(buffers_->x.data(), batch.rows * hidden(), x);
  }
}

void LayerStream::mlp(const DecoderLayer& layer) {
  const size_t inter = intermediate();
  for (const Batch& batch : batches_) {
    std::copy_n(states_.data() + batch.first_row * hidden(), batch.rows * hidden(),
                buffers_->x.data());
    team_.run([&](Worker& w) { layer.mlp(w, config_, batch.rows, *buffers_); });
    for (size_t r = 0; r < batch.rows; ++r)
      std::copy_n(buffers_->gate_up.data() + r * 2 * inter, inter,
                  activated_.data() + (batch.first_row + r) * inter);
  }
}

void LayerStream::mlp_output(const DecoderLayer& layer) {
  const size_t inter = intermediate();
  for (const Batch& batch : batches_) {
    float* x = states_.data() + batch.first_row * hidden();
    std::copy_n(x, batch.rows * hidden(), buffers_->x.data());
    for (size_t r = 0; r < batch.rows; ++r)
      std::copy_n(activated_.data() + (batch.first_row + r) * inter, inter,
                  buffers_->gate_up.data() + r * 2 * inter);
    team_.run([&](Worker& w) { layer.mlp_output(w, config_, batch.rows, *buffers_); });
    std::copy_n(buffers_->x.data(), batch.rows * hidden(), x);
  }
}

}  // namespace octet
