// Static int8 scales of keys and values ("C8"): per channel, symmetric, from the float model's k
// and v. Keys are cached after rope; msModelSlim v0 measures them before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <vector>

#include "src/model/layer.h"

namespace octet {

class KvRange {
 public:
  explicit KvRange(size_t channels) : low_(channels), high_(channels) {}
  void observe(const float* x, size_t ldx, size_t m);  // x [m, channels]
  // The same after the norm of every head (if it has weights) and rope: cos and sin [m, half_dim],
  // heads of 2 * half_dim channels.
  void observe_rotated(const float* x, size_t ldx, size_t m, const Norm& norm, const float* cos,
                       const float* sin, size_t half_dim);
  // scale = max(eps, max |x| / 127) [channels], for x = (what was seen - center) / s, both
  // [channels] or empty.
  std::vector<float> scale(const std::vector<float>& s,
                           const std::vector<float>& center = {}) const;
  // (max |x| of both channels that rope rotates together) ^ power, at least 1e-5 [channels]: what
  // keys are divided by before they are cached, and queries multiplied by. `shared`: one for all
  // heads, of the largest, as a power of two: norms of heads that take it stay exact inverses in
  // any stored type.
  std::vector<float> key_scale(double power, size_t half_dim, bool shared) const;

 private:
  void observe(size_t channel, float x) {
    low_[channel] = std::min(low_[channel], x);
    high_[channel] = std::max(high_[channel], x);
  }
  float top(size_t channel) const { return std::max(-low_[channel], high_[channel]); }

  std::vector<float> low_, high_;  // extremes of x, and zero
};

}  // namespace octet
