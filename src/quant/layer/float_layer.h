// One decoder layer's float weights in memory, the unit of streaming quantization.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/model/layer.h"

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

}  // namespace octet
