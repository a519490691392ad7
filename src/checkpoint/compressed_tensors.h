// Checkpoints of llm-compressor, quant_method "compressed-tensors", in W8A8: int8 weights per
// channel or tensor, int8 inputs per tensor (static) or per token (docs/convert.md).
#pragma once

#include <string>

#include "src/checkpoint/model_config.h"
#include "src/checkpoint/quant_description.h"
#include "src/checkpoint/safetensors.h"

namespace octet {

// Whether config.json is one of theirs.
bool is_compressed_tensors(const ordered_json& config);

// What config.json says of the stored tensors, in the words of Ascend's descriptions. `where`: the
// file, for messages. Throws Error for any other kind of quantization, naming the field.
QuantDescription describe_compressed_tensors(const ModelConfig& config, const TensorStore& tensors,
                                             const std::string& where);

}  // namespace octet
