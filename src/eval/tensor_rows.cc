#include "src/eval/tensor_rows.h"

#include <algorithm>

#include "src/base/error.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/scheme.h"

namespace octet {

TensorRows::TensorRows(const ModelFolder& folder, const TensorView& tensor)
    : tensor_(tensor), columns_(tensor.elements()) {
  if (tensor.shape.size() == 2) {
    rows_ = tensor.shape[0];
    columns_ = tensor.shape[1];
  }
  if (is_float(tensor.dtype)) return;
  constexpr std::string_view kWeight = ".weight";
  if (tensor.dtype != DType::kI8 || !tensor.name.ends_with(kWeight)) {
    whole_ = quant_values(tensor);
    return;
  }
  const std::string prefix = tensor.name.substr(0, tensor.name.size() - kWeight.size());
  const Scheme scheme = folder.scheme(prefix);
  expect_quant_tensors(folder, prefix, quant_tensors(folder, scheme), rows_);
  scale_ = weight_scales(folder, prefix, rows_);
  if (is_weight_only(scheme))
    offset_ = quant_values(folder.tensors().get(prefix + suffix::kWeightOffset));
}

std::vector<float> TensorRows::read(size_t first, size_t count) const {
  std::vector<float> out(count * columns_);
  if (!whole_.empty()) {
    std::copy_n(whole_.begin() + static_cast<ptrdiff_t>(first * columns_), out.size(), out.begin());
    return out;
  }
  const size_t size = dtype_size(tensor_.dtype);
  TensorView part = tensor_;
  part.data = tensor_.data.subspan(first * columns_ * size, count * columns_ * size);
  if (scale_.empty()) {
    part.to_floats(out.data());
  } else {
    const int8_t* q = reinterpret_cast<const int8_t*>(part.data.data());
    for (size_t r = 0; r < count; ++r) {
      const float offset = offset_.empty() ? 0 : offset_[first + r];
      for (size_t i = r * columns_; i < (r + 1) * columns_; ++i)
        out[i] = (static_cast<float>(q[i]) - offset) * scale_[first + r];
    }
  }
  part.release();
  return out;
}

}  // namespace octet
