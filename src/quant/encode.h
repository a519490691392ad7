// Float values to the dtypes in which a checkpoint stores them.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "src/checkpoint/dtype.h"

namespace octet {

// `v` rounded to F16, BF16 or F32 and back.
float round_to(float v, DType dtype);
// The stored bytes of `values` in F16, BF16 or F32. Throws Error when a finite value overflows.
std::vector<std::byte> encode(std::span<const float> values, DType dtype);

}  // namespace octet
