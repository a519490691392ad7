// Changes of a decoder layer's weights that leave its function as it is: what they move, and where
// from and to, decides how well the layer can be quantized (docs/recipes.md).
#pragma once

#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/layer/rotation.h"

namespace octet {

// The scales [rows] of the rows of v_proj or up_proj, whose outputs become an input with `scale`
// [k]: heads of the input that share a head of the source have equal scales. Empty for none.
std::vector<float> source_scale(const std::vector<float>& scale, size_t rows,
                                const ModelConfig& config);

// The group's weight columns * s and its source / s: norm.weight and norm.bias, or the rows of the
// linear before.
void fuse(const std::vector<float>& scale, LayerPart part, const ModelConfig& config,
          FloatLayer& layer);
// The norm's weights into the columns of the group that it feeds; the norm's become one.
void fuse_norm(LayerPart part, const ModelConfig& config, FloatLayer& layer);

// The values' channels v - center [kv_size], in v's bias; o's bias takes back what they bring,
// since the weights of attention sum to one. Both biases are there afterwards.
void center_values(const std::vector<float>& center, const ModelConfig& config, FloatLayer& layer);

// Keys (rows of k) / scale [kv_size], queries of the heads that read them * scale. Both channels
// that rope rotates together have equal scales. Where keys are normalized head by head, their norm
// and that of the queries take the scale, which must be the same for all heads.
void scale_keys(const std::vector<float>& scale, const ModelConfig& config, FloatLayer& layer);

// R1: the residual stream x becomes x R. Norm weights must be fused before.
void rotate_residual(const Rotation& r, FloatLayer& layer, ThreadTeam& team);
// R2: the values of every head become v R; o takes it back.
void rotate_values(const Rotation& r, const ModelConfig& config, FloatLayer& layer,
                   ThreadTeam& team);

// Copies of MLP channels: copy i computes channel source[i], its up row times share[i]. The shares
// of a channel's copies sum to one, so that down (its column repeated) adds up to the same.
struct ChannelSplit {
  std::vector<size_t> source;
  std::vector<float> share;
};
// Gives the layer's MLP these copies in place of its channels.
void split_channels(const ChannelSplit& split, FloatLayer& layer);

}  // namespace octet
