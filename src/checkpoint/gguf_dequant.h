// The block formats of GGUF tensors, decoded to float.
#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "src/checkpoint/gguf.h"

namespace octet {

// How a type stores its elements: in blocks of `elements` that take `bytes`.
struct GgufBlock {
  size_t elements;
  size_t bytes;
};

// Nothing for a number that is no supported type.
std::optional<GgufBlock> gguf_block(GgufType type);

// Decodes `out.size()` elements, a multiple of the type's block, from `data`, which holds exactly
// their blocks. Products and sums are rounded to float one by one in the order in which the
// format's definition has them, so the result is the same on every machine.
void gguf_dequantize(GgufType type, std::span<const std::byte> data, std::span<float> out);

}  // namespace octet
