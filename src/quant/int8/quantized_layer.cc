#include "src/quant/int8/quantized_layer.h"

namespace octet {

std::vector<QuantizedLinear*> QuantizedLayer::of(LayerPart part) {
  std::vector<QuantizedLinear*> all;
  for (const LinearRow& row : linear_rows())
    if (row.part == part) all.push_back(&at(row.kind));
  return all;
}

std::vector<const QuantizedLinear*> QuantizedLayer::of(LayerPart part) const {
  std::vector<const QuantizedLinear*> all;
  for (const LinearRow& row : linear_rows())
    if (row.part == part) all.push_back(&at(row.kind));
  return all;
}

}  // namespace octet
