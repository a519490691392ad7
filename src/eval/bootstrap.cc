#include "src/eval/bootstrap.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "src/base/error.h"
#include "src/base/quantile.h"

namespace octet {

std::optional<Interval> ratio_interval(std::span<const double> numerators,
                                       std::span<const double> denominators) {
  const size_t n = numerators.size();
  OCTET_CHECK(n == denominators.size() && n < UINT32_MAX);
  if (n < 2) return std::nullopt;
  std::mt19937 draws(0);  // the standard says what it yields, unlike its distributions
  std::vector<double> ratios;
  for (int i = 0; i < kResamples; ++i) {
    double above = 0, below = 0;
    for (size_t k = 0; k < n; ++k) {
      const size_t drawn = static_cast<size_t>(uint64_t{draws()} * n >> 32);
      above += numerators[drawn];
      below += denominators[drawn];
    }
    ratios.push_back(above / below);
  }
  std::sort(ratios.begin(), ratios.end());
  return Interval{quantile(ratios, 0.025), quantile(ratios, 0.975)};
}

}  // namespace octet
