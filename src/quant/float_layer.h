// One decoder layer's float weights in memory, the unit of streaming quantization.
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/model/layer.h"
#include "src/model/tap_linear.h"
#include "src/quant/activations.h"

namespace octet {

// y [n] = w [n, k] x [k] + bias [n], the checkpoint's bf16, fp16 or fp32 values as float32.
struct FloatWeight {
  LinearShape shape{};
  std::vector<float> w;     // [n, k]
  std::vector<float> bias;  // [n] or empty
};

// The groups of linears that read the same input, in order of execution, and what makes that input:
// a scale can be moved from there into the group.
enum class InputSource { kInputNorm, kPostNorm, kV, kUp };  // the last two: rows of v_proj, up_proj
struct InputGroup {
  std::vector<LinearKind> kinds;
  InputSource source;
  bool after_norm() const {
    return source == InputSource::kInputNorm || source == InputSource::kPostNorm;
  }
};
const std::vector<InputGroup>& input_groups();
std::vector<std::string> linear_names(int64_t layer, const InputGroup& group);

// Two RMS norms (weights [hidden]) and the seven linears q, k, v, o, gate, up, down.
struct FloatLayer {
  Norm input_norm, post_norm;
  std::array<FloatWeight, 7> linears;  // by LinearKind
  FloatWeight& at(LinearKind kind) { return linears[static_cast<size_t>(kind)]; }
  const FloatWeight& at(LinearKind kind) const { return linears[static_cast<size_t>(kind)]; }
  std::vector<const FloatWeight*> weights_of(const InputGroup& group) const;
  Norm& norm_of(const InputGroup& group);  // the norm that feeds the group
};

// Throws Error with file and tensor when one is missing, has another shape than
// config.json says, or holds a value that is NaN or infinite.
FloatLayer load_float_layer(const ModelFolder& folder, int64_t layer, ThreadTeam& team);
// Linears of one input as one packed float matrix [sum of their n, k], their outputs one after the
// other; all or none have a bias.
std::unique_ptr<Linear> pack_float(const std::vector<const FloatWeight*>& parts, ThreadTeam& team);

// By input channel [k]: the sum over all outputs of all parts, which have the same k, of w^2.
std::vector<double> column_squares(const std::vector<const FloatWeight*>& parts, ThreadTeam& team);

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
  void run(const DecoderLayer& layer, const std::function<void()>& done = {});
  // The states of all batches, one after another.
  std::span<float> all_states() { return states_.span(); }
  // Of the rows of the batch that is running: [rows, head_dim / 2].
  const float* cos() const { return buffers_.cos.data(); }
  const float* sin() const { return buffers_.sin.data(); }
  // Shows every batch's normalized state [sequences * tokens, hidden] to `tap`.
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
