#include "src/model/input_grid.h"

#include <algorithm>
#include <cmath>

#include "src/base/int8_grid.h"
#include "src/checkpoint/quant_tensors.h"

namespace octet {

void InputGrid::round(const float* x, size_t k, float* y) const {
  float step = scale, zero = offset;
  if (per_token) {
    float top = 0;
    for (size_t i = 0; i < k; ++i) top = std::max(top, std::fabs(x[i]));
    step = std::max(top / 127.0f, 1e-30f);
    zero = 0;
  }
  const Int8Grid<GridRule{}> grid(step, zero);
  for (size_t i = 0; i < k; ++i) y[i] = grid.value(x[i]);
}

std::optional<InputGrid> input_grid(const ModelFolder& folder, const std::string& prefix) {
  const Scheme scheme = folder.scheme(prefix);
  if (scales_per_token(scheme)) return InputGrid{true, 1, 0};
  if (!is_static(scheme)) return std::nullopt;
  const InputQuant input = input_quant(folder, prefix);
  return InputGrid{false, input.scale, input.offset};
}

}  // namespace octet
