// Changes of a decoder layer's weights that leave its function as it is: what they move, and where
// from and to, decides how well the layer can be quantized (docs/quantization.md, "exact changes").
#pragma once

#include <span>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/quant/float_layer.h"
#include "src/quant/rotation.h"

namespace octet {

// The norm's weights into the columns of the linears that it feeds; the norm's become one.
void fuse_norm(Norm& norm, const std::vector<FloatWeight*>& targets);

// R1: the residual stream x becomes x R. Norm weights must be fused before.
void rotate_residual(const Rotation& r, FloatLayer& layer, ThreadTeam& team);
// R2: the values of every head become v R; o takes it back.
void rotate_values(const Rotation& r, const ModelConfig& config, FloatLayer& layer,
                   ThreadTeam& team);

// Channel c of v [kv_size] divided by s[c]; the columns of o of its query heads multiplied.
void scale_values(std::span<const float> s, const ModelConfig& config, FloatLayer& layer);
// Channel c of up [intermediate] divided by s[c]; the column of down multiplied.
void scale_up(std::span<const float> s, FloatLayer& layer);

// Copies of MLP channels: copy i computes channel source[i], its up row times share[i]. The shares
// of a channel's copies sum to one, so that down (its column repeated) adds up to the same.
struct ChannelSplit {
  std::vector<size_t> source;
  std::vector<float> share;
};
void split_channels(const ChannelSplit& split, FloatLayer& layer);

}  // namespace octet
