// A linear layer y = x W^T (+ bias), by storage scheme: one class a scheme behind one interface.
//
// All methods marked SPMD are called by every worker of a running ThreadTeam. A layer's input is
// prepared by stage() on the rows that w.share(m) gives the worker, so that a caller can produce
// those rows (norm, SiLU) and stage them with no barrier between. After stage() the caller puts a
// barrier, then compute(), then a barrier before the output is read.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "src/base/float16.h"
#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"

namespace octet {

// Scratch for quantized activations, shared by the layers of a model (they run one after another).
class StageBuffer {
 public:
  // Room for `rows` rows of up to `max_k` inputs in `slots` independent slots.
  StageBuffer(size_t rows, size_t max_k, size_t slots);
  uint8_t* slot(size_t i) { return data_.data() + i * slot_bytes_; }

 private:
  size_t slot_bytes_;
  Buffer<uint8_t> data_;
};

class Linear {
 public:
  virtual ~Linear() = default;
  virtual size_t outputs() const = 0;  // n
  virtual size_t inputs() const = 0;   // k
  virtual uint64_t bytes() const = 0;  // weights read by one pass
  // SPMD. x [m, ldx]: only rows w.share(m) are read.
  virtual void stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
                     size_t slot) = 0;
  // SPMD. y [m, ldy] = (or +=) x W^T + bias.
  virtual void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
                       bool accumulate, StageBuffer& buffer, size_t slot) = 0;
};

// Weights of 16 or 32 bits, computed in float.
class FloatLinear final : public Linear {
 public:
  // w [n, k] of `type`; bias [n] or empty. Packs with all workers of `team`. 32-bit weights that
  // are all exact in bf16 (or f16) are kept in 16 bits.
  FloatLinear(const void* w, kernels::FloatType type, size_t n, size_t k, std::vector<float> bias,
              ThreadTeam& team);
  size_t outputs() const override { return n_; }
  size_t inputs() const override { return k_; }
  uint64_t bytes() const override { return n_ * k_ * kernels::float_type_size(type_); }
  void stage(Worker&, const float*, size_t, size_t, StageBuffer&, size_t) override {}
  void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
               bool accumulate, StageBuffer&, size_t) override;

 private:
  kernels::FloatType type_;
  size_t n_, k_;
  Buffer<uint8_t> packed_;
  Buffer<float> bias_;  // padded to panels; empty without bias
};

// Static W8A8: y = (sum_k xq w + quant_bias) * deq_scale, xq = sat8(rne(x / input_scale) +
// input_offset). The formula of docs/formats.md.
struct W8A8Params {
  float input_scale = 1;
  float input_offset = 0;           // integral, in [-128, 127]
  std::vector<int32_t> quant_bias;  // [n]
  std::vector<float> deq_scale;     // [n]
};

class W8A8Linear final : public Linear {
 public:
  W8A8Linear(const int8_t* w, size_t n, size_t k, const W8A8Params& params, ThreadTeam& team);
  size_t outputs() const override { return n_; }
  size_t inputs() const override { return k_; }
  uint64_t bytes() const override { return n_ * k_ + 8 * n_; }
  void stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
             size_t slot) override;
  void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
               bool accumulate, StageBuffer& buffer, size_t slot) override;
  // Another input quantization for the same weights (calibration): replaces params.
  void set_params(const W8A8Params& params);

 private:
  size_t n_, k_;
  float input_scale_ = 1, input_offset_ = 0;
  std::vector<int64_t> shift_sum_;  // act_shift * sum_k w[j, k]
  Buffer<int8_t> packed_;
  Buffer<int32_t> bias_;  // bias', padded to panels
  Buffer<float> scale_;
};

// Several linears of one input side by side: their outputs fill consecutive columns of y.
class LinearGroup final : public Linear {
 public:
  explicit LinearGroup(std::vector<std::unique_ptr<Linear>> parts);
  size_t outputs() const override { return n_; }
  size_t inputs() const override { return parts_[0]->inputs(); }
  uint64_t bytes() const override;
  void stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
             size_t slot) override;
  void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
               bool accumulate, StageBuffer& buffer, size_t slot) override;
  static constexpr size_t kMaxParts = 3;  // q, k, v

 private:
  std::vector<std::unique_ptr<Linear>> parts_;
  size_t n_ = 0;
};

}  // namespace octet
