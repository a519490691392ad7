// Linears with float activations: weights in floats, and W8A16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/model/linear.h"

namespace octet {

// Weights in the panels of the float GEMM.
struct FloatWeights {
  // w [n, k] of `type`; bias [n] or empty. Packs with all workers of `team`.
  FloatWeights(const void* w, kernels::FloatType type, size_t n, size_t k,
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
  // w [n, k] of `type`; bias [n] or empty. 32-bit weights that are all exact in bf16 (or f16) are
  // kept in 16 bits.
  FloatLinear(const void* w, kernels::FloatType type, size_t n, size_t k,
              const std::vector<float>& bias, ThreadTeam& team);
  size_t outputs() const override { return weights_.n; }
  size_t inputs() const override { return weights_.k; }
  uint64_t bytes() const override {
    return weights_.n * weights_.k * kernels::float_type_size(weights_.type);
  }
  void stage(Worker&, const Rows&, StageBuffer&, size_t) override {}
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer&, size_t) override;

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
  // w [n, k].
  W8A16Linear(const int8_t* w, size_t n, size_t k, const W8A16Params& params, ThreadTeam& team);
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
