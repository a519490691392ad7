// Quantized linears of one input as the engine will compute them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "src/checkpoint/quant_description.h"
#include "src/dist/communicator.h"
#include "src/quant/int8/quantized_layer.h"
#include "src/quant/layer/float_layer.h"

namespace octet {

// The group as the engine will compute it, shared by the ranks; `names` of its linears, for errors.
std::unique_ptr<Linear> build_linear(const std::vector<std::string>& names,
                                     const std::vector<const FloatWeight*>& weights,
                                     const std::vector<QuantizedLinear>& quantized, Scheme scheme,
                                     ThreadTeam& team, Communicator& ranks);

}  // namespace octet
