#include "src/quant/weight_rounding.h"

#include <algorithm>
#include <cmath>

namespace octet {

float row_scale(const float* w, size_t k) {
  float top = 0;
  for (size_t i = 0; i < k; ++i) top = std::max(top, std::fabs(w[i]));
  return std::max(top / 127.0f, 1.1920929e-07f);
}

RoundedWeight round_weight(const std::vector<float>& w, size_t n, size_t k, ThreadTeam& team) {
  RoundedWeight r{std::vector<int8_t>(n * k), std::vector<float>(n), std::vector<int64_t>(n)};
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(n);
    for (size_t j = begin; j < end; ++j) {
      const float scale = row_scale(w.data() + j * k, k);
      int64_t sum = 0;
      for (size_t i = 0; i < k; ++i) {
        const int8_t q = static_cast<int8_t>(round_to_grid(w[j * k + i], scale));
        r.q[j * k + i] = q;
        sum += q;
      }
      r.scale[j] = scale;
      r.sum[j] = sum;
    }
  });
  return r;
}

}  // namespace octet
