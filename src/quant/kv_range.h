// Static int8 scales of keys and values ("C8"): per channel, symmetric, from the float model's k
// and v before rope.
#pragma once

#include <cstddef>
#include <vector>

namespace octet {

class KvRange {
 public:
  explicit KvRange(size_t channels) : top_(channels) {}
  void observe(const float* x, size_t ldx, size_t m);  // x [m, channels]
  // scale = max(eps, max |x| / 127) [channels], x first divided by s [channels] (empty: by one).
  std::vector<float> scale(const std::vector<float>& s) const;

 private:
  std::vector<float> top_;  // max |x|
};

}  // namespace octet
