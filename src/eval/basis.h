// How the channels of a quantized model relate to those of its float model. Outlier suppression
// scales them, recipes rotate them and give MLP channels copies; before the two can be compared,
// both are brought to one basis.
#pragma once

#include <optional>
#include <vector>

#include "src/model/transformer.h"
#include "src/quant/layer/rotation.h"

namespace octet {

// One pair of folders.
class Basis {
 public:
  // Learns what it can from the two folders: the rotations that octet_recipe.yaml or
  // octet_practice.yaml names, the norms' weights, repeated gate rows; and whether embeddings and
  // o_proj agree after that.
  Basis(const ModelFolder& reference, const ModelFolder& model);

  // Brings one row of each to common channels, in place; false when no relation is known.
  // `reference` and `model` [k]: the input of the part of a layer.
  bool input(size_t layer, LayerPart part, std::vector<float>& reference,
             std::vector<float>& model) const;
  // The output [n] of one linear.
  bool output(size_t layer, LinearKind kind, std::vector<float>& reference,
              std::vector<float>& model) const;
  // What may still differ between a channel of the two.
  enum class Freedom { kNone, kScale, kScaleAndMean };
  Freedom freedom(LayerPart input) const {
    if (input == LayerPart::kO) return of_values_;
    return input == LayerPart::kDown ? Freedom::kScale : Freedom::kNone;
  }
  Freedom freedom(LinearKind output) const {
    if (output == LinearKind::kV) return of_values_;
    if (output == LinearKind::kQ || output == LinearKind::kK) return of_keys_;
    return output == LinearKind::kUp ? Freedom::kScale : Freedom::kNone;
  }

 private:
  struct NormPair {
    std::vector<float> reference, model, bias;  // [hidden]
  };
  bool states_agree(const ModelFolder& reference, const ModelFolder& model) const;
  bool values_agree(const ModelFolder& reference, const ModelFolder& model) const;
  bool fold(size_t layer, size_t channels, bool mean, std::vector<float>& model) const;
  bool rotate_heads(std::vector<float>& row) const;

  std::optional<Rotation> residual_, values_;
  bool states_known_ = false, values_known_ = false;
  Freedom of_keys_ = Freedom::kNone;
  Freedom of_values_ = Freedom::kScale;
  std::vector<NormPair> before_qkv_, before_gate_;  // by layer
  std::vector<std::vector<size_t>> channel_of_;     // by layer: [intermediate], or empty
};

}  // namespace octet
