// The values that a stored tensor stands for, row by row: int8 weights times their scales.
#pragma once

#include <vector>

#include "src/checkpoint/model_folder.h"

namespace octet {

// Rows of one tensor as float32.
class TensorRows {
 public:
  // `tensor` of `folder`; both must outlive this. One without two dimensions is one row. Throws
  // Error for a dtype that no tensor of a checkpoint has.
  TensorRows(const ModelFolder& folder, const TensorView& tensor);

  size_t rows() const { return rows_; }
  size_t columns() const { return columns_; }
  // Whether the values are int8 weights times scales.
  bool dequantized() const { return !scale_.empty(); }
  // `count` rows from `first` on [count, columns].
  std::vector<float> read(size_t first, size_t count) const;

 private:
  const TensorView& tensor_;
  size_t rows_ = 1, columns_;
  std::vector<float> scale_, offset_;  // [rows] of int8 weights; no offset: 0
  std::vector<float> whole_;           // of small integer tensors
};

}  // namespace octet
