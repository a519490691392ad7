// W8A8_MIX: tokens of prompts as W8A8_DYNAMIC, generated tokens as static W8A8, with the same
// weights. The buffer's runs say which rows are which.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "src/model/int8_linear.h"

namespace octet {

class MixLinear final : public Int8Linear {
 public:
  MixLinear(std::shared_ptr<const Int8Weights> weights, const W8A8Params& generated,
            const DynamicParams& prompt);
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
  Int8Linear& of(const RowRun& run);

  W8A8Linear generated_;
  DynamicLinear prompt_;
};

}  // namespace octet
