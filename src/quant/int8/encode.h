// From what was computed to what a checkpoint stores.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "src/checkpoint/dtype.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/int8/weight_rounding.h"

namespace octet {

// `v` rounded to F16, BF16 or F32 and back.
float round_to(float v, DType dtype);
// All of `values` so. Throws Error naming `tensor` when a finite value overflows: computing would
// go on with infinity, and what it breaks is noticed layers later.
void round_all(std::vector<float>& values, DType dtype, const std::string& tensor);
// The stored bytes of `values` in F16, BF16 or F32. Throws Error naming `tensor`, if it is given,
// when a finite value overflows.
std::vector<std::byte> encode(std::span<const float> values, DType dtype,
                              const std::string& tensor = "");

// A copy of the bytes, of the values as they lie in memory.
std::vector<std::byte> bytes_of(std::span<const std::byte> data);
template <typename T>
std::vector<std::byte> bytes_of(const std::vector<T>& values) {
  return bytes_of(std::as_bytes(std::span(values)));
}

// deq_scale [n] = input scale * weight scale, each product rounded once to float32.
std::vector<float> deq_scale(const RoundedWeight& w, const QuantParams& input);
// The stored bytes of deq_scale: float32, or its bits in an int64.
std::vector<std::byte> encode_deq_scale(std::span<const float> values, DType dtype);
// rne(bias / deq_scale - offset * row sum) [n] of the linear `name`: in float32 as msModelSlim
// does, or rne(bias / deq_scale) in double and the rest in exact integers. `bias` [n] or empty.
// Throws Error when it does not fit 32 bits.
std::vector<int32_t> quant_bias(const std::string& name, const RoundedWeight& w,
                                const QuantParams& input, const std::vector<float>& bias,
                                bool in_float32);

}  // namespace octet
