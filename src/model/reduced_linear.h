// A linear of whose weight [n, k] every rank has some columns: the ranks' products are added up.
//
// int8: the integers of all ranks are added exactly, quant_bias is rank 0's, and only the sum
// becomes numbers, so that the result has the bits of one rank that has all columns. Floats: the
// ranks' products in float32, host by host and in the order of the ranks; they differ from one
// rank's by rounding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "src/dist/communicator.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/model/linear.h"

namespace octet {

// Where products wait for their sum: one place for all linears of a model, which take turns.
struct ReduceBuffer {
  Buffer<int32_t> sums;   // [rows, n], int8
  Buffer<float> partial;  // [rows, n], floats
  Buffer<float> maximum;  // [rows], where rows have a scale each
};

class ReducedLinear final : public Linear {
 public:
  // `part` computes this rank's columns, for steps of up to `rows` rows.
  ReducedLinear(std::unique_ptr<Linear> part, Communicator& ranks, size_t rows,
                ReduceBuffer& shared);
  size_t outputs() const override { return part_->outputs(); }
  size_t inputs() const override { return part_->inputs(); }  // of the part
  uint64_t bytes() const override { return part_->bytes(); }
  void stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) override;
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
               size_t slot) override;

 private:
  std::unique_ptr<Linear> part_;
  IntegerSums* sums_;  // of part_, where it has such
  Communicator& ranks_;
  ReduceBuffer& shared_;
};

}  // namespace octet
