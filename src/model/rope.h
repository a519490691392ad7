// Rotary position embedding: frequencies of the plain and the llama3 type.
#pragma once

#include <vector>

#include "src/checkpoint/model_config.h"

namespace octet {

// By what some rows are rotated.
struct RopeAngles {
  const float *cos, *sin;  // [rows, head_dim / 2]
};

class Rope {
 public:
  explicit Rope(const ModelConfig& config);
  // cos and sin [head_dim / 2] of a position.
  void angles(size_t position, float* cos, float* sin) const;
  size_t half_dim() const { return inv_freq_.size(); }
  const std::vector<float>& inv_freq() const { return inv_freq_; }

 private:
  std::vector<float> inv_freq_;  // [head_dim / 2]
};

}  // namespace octet
