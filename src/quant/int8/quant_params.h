// Scale and offset of a static per-tensor range.
#pragma once

#include <limits>
#include <span>

#include "src/checkpoint/dtype.h"

namespace octet {

inline constexpr float kMinQuantScale = 1.1920929e-07f;  // of any scale: float32's epsilon

struct Range {
  float min = 0, max = 0;
};

// Of no value yet.
inline constexpr Range kNothing = {std::numeric_limits<float>::infinity(),
                                   -std::numeric_limits<float>::infinity()};
// `range` with the values x in it, too.
Range widened(Range range, std::span<const float> x);

struct QuantParams {
  float scale = 1;
  float offset = 0;  // an integer from -128 to 127
};
// scale = max((max - min) / 255, kMinQuantScale) rounded to `stored` (the dtype it is written in),
// then offset = rne(-min / scale) - 128, with min <= 0 <= max.
QuantParams params_of(Range range, DType stored);

}  // namespace octet
