// From a model folder to layers ready to compute: reads tensors, checks them, packs them.
#pragma once

#include <memory>

#include "src/checkpoint/model_folder.h"
#include "src/dist/shard.h"
#include "src/model/layer.h"

namespace octet {

kernels::FloatType float_type(DType dtype);  // F32, F16 or BF16

// A norm `prefix` with `size` weights; those of a layer; the one before the head. Throws Error for
// a tensor that is missing, has another shape or is not finite.
Norm load_norm(const ModelFolder& folder, const std::string& prefix, uint64_t size);
LayerNorms load_norms(const ModelFolder& folder, int64_t layer);
Norm load_final_norm(const ModelFolder& folder);
// The shard of a layer. q/k/v and gate/up are one packed matrix each where they share scheme and
// input quantization (as in ordinary checkpoints), a group otherwise. o and down, of which every
// rank has some columns, add up nothing by themselves.
DecoderLayer load_layer(const ModelFolder& folder, int64_t layer, const Shard& shard,
                        ThreadTeam& team);
// The shard of an output head that is quantized.
std::unique_ptr<Linear> load_quantized_head(const ModelFolder& folder, const Shard& shard,
                                            ThreadTeam& team);

}  // namespace octet
