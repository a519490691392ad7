#include "src/quant/kv_range.h"

#include <algorithm>
#include <cmath>

#include "src/quant/observer.h"

namespace octet {

void KvRange::observe(const float* x, size_t ldx, size_t m) {
  for (size_t r = 0; r < m; ++r)
    for (size_t i = 0; i < top_.size(); ++i) top_[i] = std::max(top_[i], std::fabs(x[r * ldx + i]));
}

std::vector<float> KvRange::scale(const std::vector<float>& s) const {
  std::vector<float> scale(top_.size());
  for (size_t i = 0; i < scale.size(); ++i)
    scale[i] = std::max(kMinQuantScale, (s.empty() ? top_[i] : top_[i] / s[i]) / 127.0f);
  return scale;
}

}  // namespace octet
