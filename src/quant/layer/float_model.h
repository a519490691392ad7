// The float model as the quantizer sees it: read from the folder layer by layer, with the exact
// changes that concern the whole model (fused norms, rotations) merged into what it returns.
#pragma once

#include <optional>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/layer/rotation.h"

namespace octet {

class FloatModel {
 public:
  FloatModel(const ModelFolder& folder, const RotationOptions& options, ThreadTeam& team);

  const ModelConfig& config() const { return config_; }  // untied when rotated
  // Also has the system read the next layer ahead.
  FloatLayer layer(int64_t layer) const;
  uint64_t layer_bytes(int64_t layer) const;  // as they are stored
  // `count` rows of the embedding, or of the head, from row `first`: [count, hidden].
  std::vector<float> embedding(size_t first, size_t count) const;
  std::vector<float> head(size_t first, size_t count) const;
  FloatWeight head() const;  // all of it
  // The states [ids, hidden] of tokens, from an embedding stored in `stored`.
  std::vector<float> embed(const std::vector<int32_t>& ids, DType stored) const;
  Norm final_norm() const;

 private:
  const ModelFolder& folder_;
  ThreadTeam& team_;
  ModelConfig config_;
  std::vector<std::vector<const TensorView*>> stored_;  // by layer
  std::optional<Rotation> residual_, values_;
  Norm final_norm_;
};

}  // namespace octet
