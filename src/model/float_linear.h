// Linears with float activations: weights in floats, and W8A16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/model/linear.h"
#include "src/model/weight_source.h"

namespace octet {

// Weights in the panels of the float GEMM.
struct FloatWeights {
  // Weights of `type`; bias [n] or empty. Packs with all workers of `team`.
  FloatWeights(const WeightSource& source, kernels::FloatType type, size_t n, size_t k,
               const std::vector<float>& bias, ThreadTeam& team);
  size_t padded_outputs() const;  // n, to a multiple of the panel
  kernels::FloatType type;
  size_t n, k;
  Buffer<uint8_t> packed;
  Buffer<float> bias;  // padded to panels; empty without bias
};

// Weights of 16 or 32 bits, computed in float.
class FloatLinear final : public Linear {
 public:
  // Weights of `type`; bias [n] or empty. 32-bit weights that are all exact in bf16 (or f16) are
  // kept in 16 bits.
  FloatLinear(const WeightSource& source, kernels::FloatType type, size_t n, size_t k,
              const std::vector<float>& bias, ThreadTeam& team);
  FloatLinear(const void* w, kernels::FloatType type, size_t n, size_t k,
              const std::vector<float>& bias, ThreadTeam& team);  // w [n, k], at any byte
  size_t outputs() const override { return weights_.n; }
  size_t inputs() const override { return weights_.k; }
  uint64_t bytes() const override {
    return weights_.n * weights_.k * kernels::float_type_size(weights_.type);
  }
  void stage(Worker&, const Rows&, StageBuffer&, size_t) override {}
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) override;

  // Outputs in groups of neighbours that are computed by themselves: group g of one row x [k] to
  // y [group_size()], of which the last group's end is zero. The same bits as compute().
  static size_t group_size() { return kernels::table().float_panel; }
  void compute_group(const float* x, size_t g, float* y) const;
  // The weights of an output, [k].
  void weight_row(size_t output, float* w) const;

 private:
  FloatWeights weights_;
};

struct W8A16Params {
  std::vector<float> scale;   // [n]
  std::vector<float> offset;  // [n], or empty for symmetric weights
  std::vector<float> bias;    // [n] or empty
};

// W8A16: int8 weights, float activations, y = scale * sum_k x (w - offset) + bias.
class W8A16Linear final : public Linear {
 public:
  W8A16Linear(const WeightSource& source, size_t n, size_t k, const W8A16Params& params,
              ThreadTeam& team);
  size_t outputs() const override { return weights_.n; }
  size_t inputs() const override { return weights_.k; }
  uint64_t bytes() const override { return weights_.n * (weights_.k + 4); }
  void stage(Worker&, const Rows&, StageBuffer&, size_t) override {}
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) override;

 private:
  FloatWeights weights_;
  Buffer<float> scale_, offset_;  // padded to panels; no offsets of symmetric weights
};

}  // namespace octet
