// Outlier suppression: per-channel scales moved from a linear's input into its weights, fused into
// the norm before it. Methods m1 (SmoothQuant) and m3 (AWQ) of msModelSlim v0.
#pragma once

#include <span>
#include <vector>

#include "src/machine/thread_team.h"
#include "src/quant/float_layer.h"
#include "src/quant/options.h"

namespace octet {

// What the methods need of a group's inputs, gathered sample by sample.
class OutlierStats {
 public:
  explicit OutlierStats(size_t k) : amplitude_(k) {}
  void observe(const float* x, size_t ldx, size_t m);                 // x [m, k]
  const std::vector<float>& amplitude() const { return amplitude_; }  // [k] max |x|
  const std::vector<float>& first() const { return first_; }          // the first sample [m, k]

 private:
  std::vector<float> amplitude_, first_;
};

// The scale [k] of a group: inputs are divided by it, weight columns multiplied.
std::vector<float> smoothing_scale(AntiMethod method, const OutlierStats& stats,
                                   const std::vector<const FloatWeight*>& targets,
                                   ThreadTeam& team);

// norm.weight and norm.bias / s; target columns * s.
void fuse(const std::vector<float>& scale, Norm& norm, const std::vector<FloatWeight*>& targets);

}  // namespace octet
