#include "src/quant/int8/weight_rounding.h"

#include <algorithm>
#include <cmath>

#include "src/quant/int8/quant_params.h"

namespace octet {

RowGrid row_grid(const float* w, size_t k, bool asymmetric) {
  float low = 0, high = 0;
  for (size_t i = 0; i < k; ++i) {
    low = std::min(low, w[i]);
    high = std::max(high, w[i]);
  }
  if (!asymmetric) return {std::max(std::max(-low, high) / 127.0f, kMinQuantScale), 0, -127};
  const float scale = std::max((high - low) / 255.0f, kMinQuantScale);
  return {scale, round_even(-low / scale) - 128.0f, -128};
}

RoundedWeight round_weight(const std::vector<float>& w, size_t n, size_t k, bool asymmetric,
                           ThreadTeam& team) {
  RoundedWeight r{std::vector<int8_t>(n * k), std::vector<float>(n), std::vector<float>(n),
                  std::vector<int64_t>(n)};
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(n);
    for (size_t j = begin; j < end; ++j) {
      const RowGrid grid = row_grid(w.data() + j * k, k, asymmetric);
      int64_t sum = 0;
      for (size_t i = 0; i < k; ++i) {
        const int8_t q = static_cast<int8_t>(round_to_grid(w[j * k + i], grid));
        r.q[j * k + i] = q;
        sum += q;
      }
      r.scale[j] = grid.scale;
      r.offset[j] = grid.offset;
      r.sum[j] = sum;
    }
  });
  return r;
}

}  // namespace octet
