// A linear that shows what goes through it: how statistics are gathered from a running model.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "src/model/linear.h"

namespace octet {

// SPMD. Called with the whole input [m, k] of a linear before it computes, or its output [m, n]; no
// barrier follows.
using Tap = std::function<void(Worker& w, const Rows& rows)>;

// Shows its input before, and its own output (without what it is added to) after it computes; taps
// may be empty.
class TapLinear final : public Linear {
 public:
  TapLinear(std::unique_ptr<Linear> inner, Tap input, Tap output)
      : inner_(std::move(inner)), input_(std::move(input)), output_(std::move(output)) {}
  size_t outputs() const override { return inner_->outputs(); }
  size_t inputs() const override { return inner_->inputs(); }
  uint64_t bytes() const override { return inner_->bytes(); }
  void stage(Worker& w, const Rows& in, StageBuffer& b, size_t slot) override {
    inner_->stage(w, in, b, slot);
  }
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& b, size_t slot) override;

 private:
  std::unique_ptr<Linear> inner_;
  Tap input_, output_;
  std::vector<float> own_;  // [m, n] where the output is added to something
};

}  // namespace octet
