// Calibration samples on their way through the layers, batch by batch.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "src/model/layer.h"
#include "src/model/rope.h"
#include "src/model/tap_linear.h"
#include "src/quant/layer/activations.h"

namespace octet {

// Token ids of sequences of one length [sequences][tokens], which statistics see as one tensor.
using TokenBatch = std::vector<std::vector<int32_t>>;

// The hidden states of calibration batches on their way through the layers.
class CalibrationStream {
 public:
  // Embeds the batches (ids checked against the vocabulary by the caller): the states [ids, hidden]
  // of token ids are `embed`'s.
  using Embed = std::function<std::vector<float>(const std::vector<int32_t>& ids)>;
  // `memory` must outlive the stream.
  CalibrationStream(const ModelConfig& config, const Embed& embed,
                    const std::vector<TokenBatch>& batches, ActivationMemory& memory,
                    ThreadTeam& team);
  ~CalibrationStream();
  // Runs batch after batch through one layer, in place; every sequence attends to itself only.
  // `done` is called while `layer` still lives.
  void run_layer(const DecoderLayer& layer, const std::function<void()>& done = {});
  // The states of all batches, one after another.
  std::span<float> all_states() { return states_.span(); }
  // Of the rows of the batch that is running, for taps.
  RopeAngles angles() const { return {buffers_.cos.data(), buffers_.sin.data()}; }
  // Shows every batch's normalized state [sequences * tokens, hidden] to `tap`, which all workers
  // call.
  void tap(const Norm& norm, const Tap& tap);

 private:
  ModelConfig config_;  // with one layer, for the cache
  ThreadTeam& team_;
  struct Batch {
    size_t tokens = 0;            // of each sequence
    size_t first = 0, rows = 0;   // its states: from this row of all on
    std::vector<float> cos, sin;  // [rows, head_dim / 2]
  };
  std::vector<Batch> batches_;
  Activations states_;  // [rows of all, hidden]
  StepBuffers buffers_;
  std::unique_ptr<class KvCache> cache_;
  std::vector<int32_t> pages_;
};

}  // namespace octet
