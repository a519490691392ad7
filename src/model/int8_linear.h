// Linears that multiply int8 with int8: static W8A8 and W8A8_DYNAMIC (arithmetic: docs/kernels.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/model/gemm_share.h"
#include "src/model/linear.h"
#include "src/model/weight_source.h"

namespace octet {

// int8 weights in panels, shared by the linears that multiply int8 with int8.
struct Int8Weights {
  // Packs with all workers of `team`.
  Int8Weights(const WeightSource& source, size_t n, size_t k, ThreadTeam& team);
  Int8Weights(const int8_t* w, size_t n, size_t k, ThreadTeam& team);  // w [n, k]
  size_t padded_outputs() const;  // n, to a multiple of the panel
  size_t n, k;
  std::vector<int64_t> shift_sum;  // [n] act_shift * sum_k w[j, k]
  Buffer<int8_t> packed;
};

// Where a product goes: to `out`, or, where `sums` [*, n] is given, there as the integers it is.
struct Product {
  Output out;
  int32_t* sums = nullptr;
};

// What the schemes with int8 activations have in common. The rows of a step may be divided between
// two of them (W8A8_MIX), so each step of the work takes ranges of rows.
class Int8Linear : public Linear, private IntegerSums {
 public:
  explicit Int8Linear(std::shared_ptr<const Int8Weights> weights) : weights_(std::move(weights)) {}
  size_t outputs() const override { return weights_->n; }
  size_t inputs() const override { return weights_->k; }
  uint64_t bytes() const override { return weights_->n * (weights_->k + 8); }
  void stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) final;
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
               size_t slot) final;
  IntegerSums* integer_sums() final { return this; }

  // Quantizes rows [begin, end) into the buffer.
  virtual void stage_rows(const Rows& in, size_t begin, size_t end, StageBuffer& buffer,
                          size_t slot) = 0;
  // The same by the largest magnitudes [m], where rows have a scale each.
  virtual void stage_rows_within(const Rows& in, size_t begin, size_t end, const float* maximum,
                                 StageBuffer& buffer, size_t slot) = 0;
  virtual void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                        size_t slot) = 0;
  // Rows [begin, end) of the output that sums [m, n] stand for.
  virtual void finish_rows(const int32_t* sums, const Output& out, size_t begin, size_t end,
                           StageBuffer& buffer, size_t slot) = 0;

 protected:
  kernels::Int8GemmArgs args(const GemmTile& tile, const int32_t* bias, const float* scale,
                             const Product& product, StageBuffer& buffer, size_t slot) const;
  // What makes floats of sums: (sum * scale * row_scale) + bias.
  struct Dequantization {
    const float* scale;      // [n]
    const float* row_scale;  // [m] or null
    const float* bias;       // [n] or null
  };
  // finish_rows() by these.
  void scale_sums(const int32_t* sums, const Output& out, size_t begin, size_t end,
                  const Dequantization& by) const;

  std::shared_ptr<const Int8Weights> weights_;

 private:
  void stage_within(Worker& w, const Rows& in, const float* maximum, StageBuffer& buffer,
                    size_t slot) final;
  void compute_sums(Worker& w, size_t m, int32_t* sums, StageBuffer& buffer, size_t slot) final;
  void finish(Worker& w, size_t m, const int32_t* sums, const Output& out, StageBuffer& buffer,
              size_t slot) final;
  void compute_product(Worker& w, size_t m, const Product& product, StageBuffer& buffer,
                       size_t slot);
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
  bool needs_row_maximum() const override { return false; }
  void stage_rows(const Rows& in, size_t begin, size_t end, StageBuffer& buffer,
                  size_t slot) override;
  void stage_rows_within(const Rows& in, size_t begin, size_t end, const float*,
                         StageBuffer& buffer, size_t slot) override {
    stage_rows(in, begin, end, buffer, slot);
  }
  void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                size_t slot) override;
  void finish_rows(const int32_t* sums, const Output& out, size_t begin, size_t end, StageBuffer&,
                   size_t) override;
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
  bool needs_row_maximum() const override { return true; }
  void stage_rows(const Rows& in, size_t begin, size_t end, StageBuffer& buffer,
                  size_t slot) override;
  void stage_rows_within(const Rows& in, size_t begin, size_t end, const float* maximum,
                         StageBuffer& buffer, size_t slot) override;
  void multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                size_t slot) override;
  void finish_rows(const int32_t* sums, const Output& out, size_t begin, size_t end,
                   StageBuffer& buffer, size_t slot) override;

 private:
  Buffer<int32_t> bias_;         // bias', padded to panels
  Buffer<float> scale_, float_;  // weight scales; float biases or empty
};

}  // namespace octet
