// One decoder layer's float weights in memory, the unit of streaming quantization.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/model/layer.h"

namespace octet {

struct FloatWeight {
  LinearShape shape{};
  std::vector<float> w;     // [n, k]
  std::vector<float> bias;  // [n] or empty
};

struct FloatLayer {
  Norm input_norm, post_norm;
  std::array<FloatWeight, 7> linears;  // by LinearKind
  FloatWeight& at(LinearKind kind) { return linears[static_cast<size_t>(kind)]; }
  const FloatWeight& at(LinearKind kind) const { return linears[static_cast<size_t>(kind)]; }
};

FloatLayer load_float_layer(const ModelFolder& folder, int64_t layer);
// The output head's weights [vocab, hidden] (the embedding's when tied).
FloatWeight load_float_head(const ModelFolder& folder);
// Linears of one input as one packed float matrix; all or none have a bias.
std::unique_ptr<Linear> pack_float(const std::vector<const FloatWeight*>& parts, ThreadTeam& team);

// The groups of linears that read the same input, in order of execution.
struct InputGroup {
  std::vector<LinearKind> kinds;
  bool after_norm;  // fed by a norm, so smoothing can be fused there
};
const std::vector<InputGroup>& input_groups();

// Called by worker 0 with the whole input [m, k] (row stride ldx) of a linear.
using Tap = std::function<void(const float* x, size_t ldx, size_t m)>;

// A linear that shows its input to `tap` before it computes.
class TapLinear final : public Linear {
 public:
  TapLinear(std::unique_ptr<Linear> inner, Tap tap)
      : inner_(std::move(inner)), tap_(std::move(tap)) {}
  size_t outputs() const override { return inner_->outputs(); }
  size_t inputs() const override { return inner_->inputs(); }
  uint64_t bytes() const override { return inner_->bytes(); }
  void stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& b,
             size_t slot) override {
    inner_->stage(w, x, ldx, m, b, slot);
  }
  void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
               bool accumulate, StageBuffer& b, size_t slot) override {
    if (w.id() == 0) tap_(x, ldx, m);
    inner_->compute(w, x, ldx, m, y, ldy, accumulate, b, slot);
  }

 private:
  std::unique_ptr<Linear> inner_;
  Tap tap_;
};

// The hidden states of calibration samples on their way through the layers.
class CalibrationStream {
 public:
  // Embeds the samples (ids checked against the vocabulary by the caller).
  CalibrationStream(const ModelFolder& folder, const std::vector<std::vector<int32_t>>& samples,
                    ThreadTeam& team);
  ~CalibrationStream();
  // Runs sample after sample through one layer, in place. `done` is called while `layer` still
  // lives.
  void run(const DecoderLayer& layer, const std::function<void()>& done = {});
  // Shows every sample's normalized state [tokens, hidden] to `tap`.
  void tap(const Norm& norm, const Tap& tap);

 private:
  ModelConfig config_;  // with one layer, for the cache
  ThreadTeam& team_;
  size_t longest_;
  std::vector<std::vector<float>> states_;
  std::vector<std::vector<float>> cos_, sin_;  // per sample [tokens, head_dim / 2]
  StepBuffers buffers_;
  std::unique_ptr<class KvCache> cache_;
  std::vector<int32_t> blocks_;
};

}  // namespace octet
