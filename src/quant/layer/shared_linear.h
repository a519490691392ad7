// A linear whose rows of input the ranks share out: each computes some rows of the output, and gets
// the others'. The bits are those of one rank, since no row depends on another.
#pragma once

#include <memory>
#include <vector>

#include "src/dist/communicator.h"
#include "src/model/linear.h"

namespace octet {

class SharedLinear final : public Linear {
 public:
  SharedLinear(std::unique_ptr<Linear> linear, Communicator& ranks)
      : linear_(std::move(linear)), ranks_(ranks) {}
  size_t outputs() const override { return linear_->outputs(); }
  size_t inputs() const override { return linear_->inputs(); }
  uint64_t bytes() const override { return linear_->bytes(); }
  // All rows of the input, and of the output before, must be the same on all ranks.
  void stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) override;
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
               size_t slot) override;

 private:
  std::unique_ptr<Linear> linear_;
  Communicator& ranks_;
  std::vector<float> dense_;  // [m, outputs()] where y is part of something wider
};

// `linear`, shared where there is more than one rank.
std::unique_ptr<Linear> shared(std::unique_ptr<Linear> linear, Communicator& ranks);

}  // namespace octet
