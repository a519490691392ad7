// From a model folder to layers ready to compute: reads tensors, checks them, packs them.
#pragma once

#include <memory>

#include "src/checkpoint/model_folder.h"
#include "src/model/layer.h"

namespace octet {

kernels::FloatType float_type(DType dtype);  // F32, F16 or BF16

// The linears `prefixes` of one input, side by side: one packed matrix where they share scheme and
// input quantization (q/k/v, gate/up of ordinary checkpoints), a group otherwise.
std::unique_ptr<Linear> load_linears(const ModelFolder& folder,
                                     const std::vector<std::string>& prefixes,
                                     const std::vector<LinearShape>& shapes, ThreadTeam& team);

Norm load_norm(const ModelFolder& folder, const std::string& prefix);
DecoderLayer load_layer(const ModelFolder& folder, int64_t layer, ThreadTeam& team);
// The output head (lm_head, tied or not).
std::unique_ptr<Linear> load_head(const ModelFolder& folder, ThreadTeam& team);

}  // namespace octet
