// The int8 grid of a static range: which of its 256 values stands for a number. One formula,
// written by msModelSlim and its loaders in several ways that round differently in the last bit;
// each caller names the one that it has to reproduce.
#pragma once

#include <algorithm>

#include "src/base/round.h"

namespace octet {

struct GridRule {
  // q = rne(x / scale + offset), as the tool and its loaders have it; else q = rne(x / scale) +
  // offset, which is exact for offsets of any size.
  bool offset_is_rounded = false;
  bool saturates = true;    // q is kept within [-128, 127]
  bool by_inverse = false;  // x * (1 / scale) in place of x / scale
};

template <GridRule rule>
class Int8Grid {
 public:
  // scale > 0; offset an integer from -128 to 127.
  Int8Grid(float scale, float offset)
      : scale_(scale),
        offset_(offset),
        inverse_(1.0f / scale),
        low_(-128.0f - offset),
        high_(127.0f - offset) {}

  // q - offset: the number of steps that x is away from zero.
  float level(float x) const {
    const float steps = rule.by_inverse ? x * inverse_ : x / scale_;
    if constexpr (rule.offset_is_rounded) {
      const float q = round_even(steps + offset_);
      return (rule.saturates ? std::min(std::max(q, -128.0f), 127.0f) : q) - offset_;
    } else {
      const float q = round_even(steps);
      return rule.saturates ? std::min(std::max(q, low_), high_) : q;
    }
  }
  // The number that stands for x.
  float value(float x) const { return level(x) * scale_; }

 private:
  float scale_, offset_, inverse_, low_, high_;
};

}  // namespace octet
