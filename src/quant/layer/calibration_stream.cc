#include "src/quant/layer/calibration_stream.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/model/kv_cache.h"
#include "src/model/rope.h"

namespace octet {
namespace {

// The most that any batch needs, and all rows.
struct Largest {
  size_t rows = 0, pages = 0, all_rows = 0;
};
Largest largest_of(const std::vector<TokenBatch>& batches) {
  Largest l;
  for (const TokenBatch& b : batches) {
    OCTET_CHECK(!b.empty() && !b[0].empty());
    l.rows = std::max(l.rows, b.size() * b[0].size());
    l.pages = std::max(l.pages, b.size() * blocks_for(b[0].size()));
    l.all_rows += b.size() * b[0].size();
  }
  OCTET_CHECK(l.rows > 0);
  return l;
}

ModelConfig one_layer(ModelConfig c) {
  c.layers = 1;
  return c;
}

}  // namespace

CalibrationStream::CalibrationStream(const ModelConfig& config, const Embed& embed,
                                     const std::vector<TokenBatch>& batches,
                                     ActivationMemory& memory, ThreadTeam& team)
    : config_(one_layer(config)),
      team_(team),
      states_(memory.get(largest_of(batches).all_rows * static_cast<size_t>(config.hidden_size))),
      buffers_(config_, largest_of(batches).rows),
      cache_(
          std::make_unique<KvCache>(config_, largest_of(batches).pages, kernels::FloatType::kF32)) {
  OCTET_CHECK(cache_->allocate(largest_of(batches).pages, pages_));
  const Rope rope(config);
  const size_t half = rope.half_dim(), hidden = static_cast<size_t>(config_.hidden_size);
  size_t first = 0;
  for (const TokenBatch& batch : batches) {
    const size_t tokens = batch[0].size(), rows = batch.size() * tokens;
    std::vector<int32_t> ids;
    for (const std::vector<int32_t>& sequence : batch) {
      OCTET_CHECK(sequence.size() == tokens);
      ids.insert(ids.end(), sequence.begin(), sequence.end());
    }
    const std::vector<float> x = embed(ids);
    std::copy(x.begin(), x.end(), states_.data() + first * hidden);
    states_.release_rows(first * hidden, rows * hidden);
    Batch b{tokens, first, rows, std::vector<float>(rows * half), std::vector<float>(rows * half)};
    first += rows;
    for (size_t r = 0; r < rows; ++r)
      rope.angles(r % tokens, b.cos.data() + r * half, b.sin.data() + r * half);
    batches_.push_back(std::move(b));
  }
}

CalibrationStream::~CalibrationStream() = default;

void CalibrationStream::tap(const Norm& norm, const Tap& tap) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  for (const Batch& b : batches_)
    team_.run([&](Worker& w) {
      const auto [begin, end] = w.share(b.rows);
      norm.rows(states_.data() + b.first * hidden, begin, end, buffers_.h.data());
      w.barrier();
      tap(w, {buffers_.h.data(), hidden, b.rows});
    });
}

void CalibrationStream::run_layer(const DecoderLayer& layer, const std::function<void()>& done) {
  const size_t hidden = static_cast<size_t>(config_.hidden_size);
  for (const Batch& b : batches_) {
    const size_t m = b.rows;
    float* x = states_.data() + b.first * hidden;
    std::copy_n(x, m * hidden, buffers_.x.data());
    std::copy(b.cos.begin(), b.cos.end(), buffers_.cos.data());
    std::copy(b.sin.begin(), b.sin.end(), buffers_.sin.data());
    std::vector<SequenceChunk> chunks;
    for (size_t first = 0; first < m; first += b.tokens)
      chunks.push_back({first, b.tokens, 0, pages_.data() + chunks.size() * blocks_for(b.tokens)});
    const KvView kv{cache_->k_pool(0), cache_->v_pool(0), cache_->page_elements(), cache_->type()};
    buffers_.attention.set(config_, chunks, team_.size());
    team_.run([&](Worker& w) { layer.forward(w, config_, m, kv, buffers_); });
    std::copy_n(buffers_.x.data(), m * hidden, x);
    states_.release_rows(b.first * hidden, m * hidden);
  }
  if (done) done();
}

}  // namespace octet
