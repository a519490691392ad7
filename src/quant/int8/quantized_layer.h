// A decoder layer ready to be written: its linears and the scales of its KV cache.
#pragma once

#include <array>
#include <optional>
#include <vector>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/int8/weight_rounding.h"

namespace octet {

// Per layer: the scales of an int8 KV cache [kv_size].
struct KvCacheScales {
  std::vector<float> k, v;
};
NLOHMANN_DEFINE_TYPE_NON_INTRUSIVE(KvCacheScales, k, v)

// A linear ready to be written: in int8, or in float when `rounded` is empty. `input` counts for
// static types.
struct QuantizedLinear {
  std::optional<RoundedWeight> rounded;
  QuantParams input;
  std::vector<float> corrected_bias;  // [n] to compute with in place of the float bias; or empty
};
struct QuantizedLayer {
  std::array<QuantizedLinear, kLinearKinds> linears;  // by LinearKind
  std::optional<KvCacheScales> kv;                    // of a quantized KV cache
  QuantizedLinear& at(LinearKind kind) { return linears[static_cast<size_t>(kind)]; }
  const QuantizedLinear& at(LinearKind kind) const { return linears[static_cast<size_t>(kind)]; }
  // The linears that read one input.
  std::vector<QuantizedLinear*> of(LayerPart part);
  std::vector<const QuantizedLinear*> of(LayerPart part) const;
};

}  // namespace octet
