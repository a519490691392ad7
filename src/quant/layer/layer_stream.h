// All calibration tokens on their way through the layers, part of a layer by part of a layer: the
// inputs of all tokens of a linear are known before its outputs are computed.
#pragma once

#include <memory>
#include <vector>

#include "src/model/kv_cache.h"
#include "src/model/layer.h"
#include "src/model/rope.h"
#include "src/quant/layer/activations.h"

namespace octet {

// What streams of the same samples need besides their states, one at a time: what one has computed
// is lost when another computes.
class StreamScratch {
 public:
  // For samples of the given lengths, or some of them. `config`: of the model, with the largest
  // intermediate size.
  StreamScratch(const ModelConfig& config, const std::vector<size_t>& lengths,
                ActivationMemory& memory);

 private:
  friend class LayerStream;
  size_t tokens_ = 0, most_intermediate_;
  Activations normalized_, attended_, activated_;  // [tokens, hidden, q, most_intermediate]
  std::unique_ptr<StepBuffers> buffers_;           // for one batch
  std::vector<float> cos_, sin_;                   // [longest sample, head_dim / 2]
};

class LayerStream {
 public:
  // Samples of the given lengths, all of them among those of `scratch`, which must outlive the
  // stream; the states start as zero. `kv`: what attention reads keys and values as; kI8 needs
  // layers with kv_params.
  LayerStream(const ModelConfig& config, const std::vector<size_t>& lengths, kernels::FloatType kv,
              StreamScratch& scratch, ActivationMemory& memory, ThreadTeam& team);

  size_t tokens() const { return tokens_; }
  size_t hidden() const { return static_cast<size_t>(config_.hidden_size); }
  std::span<float> all_states() { return states_.span(); }
  float* states() { return states_.data(); }  // [tokens, hidden] the residual stream

  // norm(states) [tokens, hidden], valid until the next call.
  const float* normalized(const Norm& norm);
  const float* attended() const { return scratch_.attended_.data(); }    // [tokens, q]
  const float* activated() const { return scratch_.activated_.data(); }  // [tokens, intermediate()]
  size_t intermediate() const { return static_cast<size_t>(config_.intermediate_size); }

  // The parts of DecoderLayer, for all tokens. `layer` may have another intermediate size than the
  // model's: set_intermediate() before mlp().
  void attention(const DecoderLayer& layer);
  void attention_output(const DecoderLayer& layer);
  void mlp(const DecoderLayer& layer);
  void mlp_output(const DecoderLayer& layer);
  void set_intermediate(size_t size);
  // Of the rows of the batch that is running, for taps.
  RopeAngles angles() const {
    return {scratch_.buffers_->cos.data(), scratch_.buffers_->sin.data()};
  }

 private:
  struct Batch {
    size_t first_row = 0, rows = 0;  // of the whole
    std::vector<size_t> lengths;
  };
  size_t attended_size() const { return static_cast<size_t>(config_.q_size()); }
  // The batch's first row of `all` [tokens, columns].
  static float* first_row(Activations& all, const Batch& batch, size_t columns) {
    return all.data() + batch.first_row * columns;
  }
  // SPMD. A batch's states into the step's buffers, and back.
  void take_states(Worker& w, const Batch& batch);
  void keep_states(Worker& w, const Batch& batch);

  ModelConfig config_;
  StreamScratch& scratch_;
  ThreadTeam& team_;
  size_t tokens_ = 0;
  std::vector<Batch> batches_;
  Activations states_;
  std::unique_ptr<KvCache> cache_;
};

}  // namespace octet
