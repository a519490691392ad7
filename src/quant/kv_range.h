// Static int8 scales of keys and values ("C8"): per channel, symmetric, from the float model's k
// and v. Keys are cached after rope; msModelSlim v0 measures them before.
#pragma once

#include <cstddef>
#include <vector>

namespace octet {

class KvRange {
 public:
  explicit KvRange(size_t channels) : top_(channels) {}
  void observe(const float* x, size_t ldx, size_t m);  // x [m, channels]
  // The same after rope, head by head: cos and sin [m, half], heads of 2 * half channels.
  void observe_turned(const float* x, size_t ldx, size_t m, const float* cos, const float* sin,
                      size_t half);
  // scale = max(eps, max |x| / 127) [channels], x first divided by s [channels] (empty: by one;
  // signs do not matter).
  std::vector<float> scale(const std::vector<float>& s) const;
  // (max |x| of both channels that rope turns together) ^ power, at least 1e-5 [channels]: what
  // keys are divided by before they are cached, and queries multiplied by.
  std::vector<float> key_scale(double power, size_t half) const;

 private:
  std::vector<float> top_;  // max |x|
};

}  // namespace octet
