// One decoder layer's float weights in memory, the unit of streaming quantization.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "src/checkpoint/architecture.h"
#include "src/checkpoint/model_folder.h"
#include "src/model/layer.h"

namespace octet {

// y [n] = w [n, k] x [k] + bias [n], the checkpoint's bf16, fp16 or fp32 values as float32.
struct FloatWeight {
  LinearShape shape{};
  std::vector<float> w;     // [n, k]
  std::vector<float> bias;  // [n] or empty
};

// The norms and the linears of a layer.
struct FloatLayer {
  LayerNorms norms;
  std::array<FloatWeight, kLinearKinds> linears;  // by LinearKind

  FloatWeight& at(LinearKind kind) { return linears[static_cast<size_t>(kind)]; }
  const FloatWeight& at(LinearKind kind) const { return linears[static_cast<size_t>(kind)]; }
  FloatWeight& q() { return at(LinearKind::kQ); }
  FloatWeight& k() { return at(LinearKind::kK); }
  FloatWeight& v() { return at(LinearKind::kV); }
  FloatWeight& o() { return at(LinearKind::kO); }
  FloatWeight& gate() { return at(LinearKind::kGate); }
  FloatWeight& up() { return at(LinearKind::kUp); }
  FloatWeight& down() { return at(LinearKind::kDown); }
  const FloatWeight& v() const { return at(LinearKind::kV); }
  const FloatWeight& o() const { return at(LinearKind::kO); }
  const FloatWeight& up() const { return at(LinearKind::kUp); }
  const FloatWeight& down() const { return at(LinearKind::kDown); }
  // The linears that read one input.
  std::vector<FloatWeight*> of(LayerPart part);
  std::vector<const FloatWeight*> of(LayerPart part) const;
};

// Throws Error with file and tensor unless every tensor that quantizing reads is there, as float,
// in the shape that config.json says. Reads headers only, so that hours of work do not end at a
// file that was missing from the start.
void expect_float_model(const ModelFolder& folder);

// Throws Error with file and tensor when one is missing, has another shape than
// config.json says, or holds a value that is NaN or infinite.
FloatLayer load_float_layer(const ModelFolder& folder, int64_t layer, ThreadTeam& team);
// Linears of one input as one packed float matrix [sum of their n, k], their outputs one after the
// other; all or none have a bias.
std::unique_ptr<Linear> pack_float(const std::vector<const FloatWeight*>& parts, ThreadTeam& team);

// By input channel [k]: the sum over all outputs of all parts, which have the same k, of w^2.
std::vector<double> column_squares(const std::vector<const FloatWeight*>& parts, ThreadTeam& team);

}  // namespace octet
