// Several linears of one input side by side: their outputs fill consecutive columns of y.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/model/linear.h"

namespace octet {

class LinearGroup final : public Linear {
 public:
  explicit LinearGroup(std::vector<std::unique_ptr<Linear>> parts);
  size_t outputs() const override { return n_; }
  size_t inputs() const override { return parts_[0]->inputs(); }
  uint64_t bytes() const override;
  void stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) override;
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
               size_t slot) override;
  static constexpr size_t kMaxParts = 3;  // q, k, v

 private:
  std::vector<std::unique_ptr<Linear>> parts_;
  size_t n_ = 0;
};

}  // namespace octet
