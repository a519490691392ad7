// Rounding to the nearest integer.
#pragma once

namespace octet {

// Round to nearest, ties to even, for |x| < 2^22; larger values stay larger than that. One addition
// and one subtraction, so that loops over it become vector code.
inline float round_even(float x) {
  constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23
  return (x + kMagic) - kMagic;
}

}  // namespace octet
