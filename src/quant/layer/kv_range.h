// Static int8 scales of keys and values ("C8"): per channel, symmetric, from the float model's k
// and v. Keys are cached after rope; msModelSlim v0 measures them before.
#pragma once

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/model/layer.h"
#include "src/model/rope.h"

namespace octet {

class KvRange {
 public:
  explicit KvRange(size_t channels) : KvRange(channels, channels, {}) {}
  // Of keys: heads of head_dim channels, with the norm that each has before rope (without weights
  // where the family has none).
  KvRange(size_t channels, size_t head_dim, Norm key_norm)
      : half_dim_(head_dim / 2), key_norm_(std::move(key_norm)), low_(channels), high_(channels) {}
  // Of the keys of a layer with these norms.
  static KvRange of_keys(const ModelConfig& config, const LayerNorms& norms);

  // SPMD. x [m, channels].
  void observe(Worker& w, const Rows& x);
  // The same of keys after norm and rope, as they are cached; angles of the m rows.
  void observe_rotated(Worker& w, const Rows& x, const RopeAngles& angles);
  // scale = max(eps, max |x| / 127) [channels], for x = (what was seen - center) / s, both
  // [channels] or empty.
  std::vector<float> scale(const std::vector<float>& s,
                           const std::vector<float>& center = {}) const;
  // (max |x| of both channels that rope rotates together) ^ power, at least 1e-5 [channels]: what
  // keys are divided by before they are cached, and queries multiplied by. Keys with a norm, which
  // takes the scale, have one for all heads, of the largest, as a power of two: norms of queries
  // and keys stay exact inverses in any stored type.
  std::vector<float> key_scale(double power) const;

 private:
  void observe(size_t channel, float x) {
    low_[channel] = std::min(low_[channel], x);
    high_[channel] = std::max(high_[channel], x);
  }
  float top(size_t channel) const { return std::max(-low_[channel], high_[channel]); }

  size_t half_dim_;
  Norm key_norm_;
  std::vector<float> low_, high_;  // extremes of x, and zero
};

}  // namespace octet
