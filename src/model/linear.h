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

// Rows [begin, end) of a step that are all tokens of prompts, or all tokens that the model
// generated.
struct RowRun {
  size_t begin, end;
  bool generated;
};

// Scratch for quantized activations, shared by the layers of a model (they run one after another).
// A copy uses the same scratch, with runs of its own.
class StageBuffer {
 public:
  // Room for `rows` rows of up to `max_k` inputs in `slots` independent slots.
  StageBuffer(size_t rows, size_t max_k, size_t slots);
  uint8_t* slot(size_t i) { return data_->data() + i * slot_bytes_; }
  float* row_scales(size_t i) { return scales_->data() + i * rows_; }  // [rows] of slot i
  // The step's rows in order; W8A8_MIX computes the two kinds differently, others do not look.
  void set_runs(std::vector<RowRun> runs) { runs_ = std::move(runs); }
  const std::vector<RowRun>& runs() const { return runs_; }

 private:
  size_t rows_, slot_bytes_;
  std::shared_ptr<Buffer<uint8_t>> data_;
  std::shared_ptr<Buffer<float>> scales_;
  std::vector<RowRun> runs_;
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

// W8A16: int8 weights, float activations, y = weight_scale * sum_k x (w - weight_offset) + bias.
class W8A16Linear final : public Linear {
 public:
  // w [n, k]; scale [n]; offset [n], or empty for symmetric weights; bias [n] or empty.
  W8A16Linear(const int8_t* w, size_t n, size_t k, const std::vector<float>& scale,
              const std::vector<float>& offset, const std::vector<float>& bias, ThreadTeam& team);
  size_t outputs() const override { return n_; }
  size_t inputs() const override { return k_; }
  uint64_t bytes() const override { return n_ * k_ + 4 * n_; }
  void stage(Worker&, const float*, size_t, size_t, StageBuffer&, size_t) override {}
  void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
               bool accumulate, StageBuffer&, size_t) override;

 private:
  size_t n_, k_;
  Buffer<uint8_t> packed_;
  Buffer<float> scale_, offset_, bias_;  // padded to panels, or empty
};

// int8 weights in panels, shared by the linears that multiply int8 with int8.
struct Int8Weights {
  // w [n, k]. Packs with all workers of `team`.
  Int8Weights(const int8_t* w, size_t n, size_t k, ThreadTeam& team);
  size_t padded_outputs() const;  // n, to a multiple of the panel
  size_t n, k;
  std::vector<int64_t> shift_sum;  // [n] act_shift * sum_k w[j, k]
  Buffer<int8_t> packed;
};

// The part of a product that one call of a kernel computes.
struct GemmTile {
  size_t panel_begin, panel_end, row_begin, row_end;
};

// Where a product goes: to y [*, ldy], or its integers as they are to sums [*, ldy].
struct Product {
  float* y;
  size_t ldy;
  bool accumulate;  // y += instead of y =
  int32_t* sums = nullptr;
};

// What the schemes with int8 activations have in common. The rows of a step may be divided between
// two of them (W8A8_MIX), so both steps of the work take ranges of rows.
class Int8Linear : public Linear {
 public:
  explicit Int8Linear(std::shared_ptr<const Int8Weights> weights) : weights_(std::move(weights)) {}
  size_t outputs() const override { return weights_->n; }
  size_t inputs() const override { return weights_->k; }
  uint64_t bytes() const override { return weights_->n * (weights_->k + 8); }
  void stage(Worker& w, const float* x, size_t ldx, size_t m, StageBuffer& buffer,
             size_t slot) override;
  void compute(Worker& w, const float* x, size_t ldx, size_t m, float* y, size_t ldy,
               bool accumulate, StageBuffer& buffer, size_t slot) override;

  // compute(), to where `product` says.
  void compute_product(Worker& w, size_t m, const Product& product, StageBuffer& buffer,
                       size_t slot);
  // Quantizes rows [begin, end) of x [*, ldx] into the buffer.
  virtual void stage_rows(const float* x, size_t ldx, size_t begin, size_t end, StageBuffer& buffer,
                          size_t slot) = 0;
  virtual void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                        size_t slot) = 0;

  // For weights of which every rank has some columns (reduced_linear.h). Rows with a scale each are
  // staged by the largest magnitudes [*] that the ranks' parts of them hold.
  virtual bool needs_row_maximum() const { return false; }
  virtual void stage_rows_within(const float* x, size_t ldx, size_t begin, size_t end,
                                 const float* maximum, StageBuffer& buffer, size_t slot);
  // product.y = (or +=) what the integers product.sums of rows [begin, end) stand for.
  virtual void finish(const Product& product, size_t begin, size_t end, StageBuffer& buffer,
                      size_t slot) = 0;

 protected:
  // Where row r of a slot's quantized activations begins.
  uint8_t* staged_row(StageBuffer& buffer, size_t slot, size_t r) const;
  kernels::Int8GemmArgs args(const GemmTile& tile, const int32_t* bias, const float* scale,
                             const Product& product, StageBuffer& buffer, size_t slot) const;
  // finish() for these scales [n]; row_scale [*] and bias [n] may be null.
  void finish_rows(const Product& product, size_t begin, size_t end, const float* scale,
                   const float* row_scale, const float* bias) const;

  std::shared_ptr<const Int8Weights> weights_;
};

// Static W8A8: y = (sum_k xq w + quant_bias) * deq_scale + bias, xq = sat8(rne(x / input_scale) +
// input_offset). The formula of docs/formats.md, where the bias is in quant_bias.
struct W8A8Params {
  float input_scale = 1;
  float input_offset = 0;           // integral, in [-128, 127]
  std::vector<int32_t> quant_bias;  // [n]
  std::vector<float> deq_scale;     // [n]
  std::vector<float> bias{};        // [n], of compressed-tensors, or empty
};

class W8A8Linear final : public Int8Linear {
 public:
  W8A8Linear(std::shared_ptr<const Int8Weights> weights, const W8A8Params& params);
  W8A8Linear(const int8_t* w, size_t n, size_t k, const W8A8Params& params, ThreadTeam& team);
  void stage_rows(const float* x, size_t ldx, size_t begin, size_t end, StageBuffer& buffer,
                  size_t slot) override;
  void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                size_t slot) override;
  void finish(const Product& product, size_t begin, size_t end, StageBuffer& buffer,
              size_t slot) override;
  // Another input quantization for the same weights (calibration): replaces params.
  void set_params(const W8A8Params& params);

 private:
  float input_scale_ = 1, input_offset_ = 0;
  Buffer<int32_t> bias_;         // bias', padded to panels
  Buffer<float> scale_, float_;  // deq_scale; float biases or empty
};

// W8A8_DYNAMIC: every token has its own scale, s = max|x| / 127, xq = rne(x / s),
// y = sum_k xq w * weight_scale * s + bias.
struct DynamicParams {
  std::vector<float> weight_scale;  // [n]
  std::vector<float> bias;          // [n] or empty
};

class DynamicLinear final : public Int8Linear {
 public:
  DynamicLinear(std::shared_ptr<const Int8Weights> weights, const DynamicParams& params);
  void stage_rows(const float* x, size_t ldx, size_t begin, size_t end, StageBuffer& buffer,
                  size_t slot) override;
  bool needs_row_maximum() const override { return true; }
  void stage_rows_within(const float* x, size_t ldx, size_t begin, size_t end, const float* maximum,
                         StageBuffer& buffer, size_t slot) override;
  void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                size_t slot) override;
  void finish(const Product& product, size_t begin, size_t end, StageBuffer& buffer,
              size_t slot) override;

 private:
  Buffer<int32_t> bias_;         // bias', padded to panels
  Buffer<float> scale_, float_;  // weight scales; float biases or empty
};

// W8A8_MIX: tokens of prompts as W8A8_DYNAMIC, generated tokens as static W8A8, with the same
// weights. The buffer's runs say which rows are which.
class MixLinear final : public Int8Linear {
 public:
  MixLinear(std::shared_ptr<const Int8Weights> weights, const W8A8Params& generated,
            const DynamicParams& prompt);
  void stage_rows(const float* x, size_t ldx, size_t begin, size_t end, StageBuffer& buffer,
                  size_t slot) override;
  bool needs_row_maximum() const override { return true; }
  void stage_rows_within(const float* x, size_t ldx, size_t begin, size_t end, const float* maximum,
                         StageBuffer& buffer, size_t slot) override;
  void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                size_t slot) override;
  void finish(const Product& product, size_t begin, size_t end, StageBuffer& buffer,
              size_t slot) override;

 private:
  Int8Linear& of(const RowRun& run);

  W8A8Linear generated_;
  DynamicLinear prompt_;
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
