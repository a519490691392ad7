// What the tests of the outlier methods share.
#pragma once

#include <cmath>
#include <random>

#include "src/quant/layer/layer_testing.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet::tests {

// Shows rows to statistics, by three workers.
inline void show(OutlierStats& stats, const Rows& x) {
  static ThreadTeam team(3);
  team.run([&](Worker& w) { stats.observe(w, x); });
}

// x [m, k]: some channels are much larger than others.
inline std::vector<float> uneven_input(size_t m, size_t k, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> x(m * k);
  for (size_t i = 0; i < x.size(); ++i)
    x[i] = normal(rng) * std::exp2(static_cast<float>(i % k % 5));
  return x;
}

// The best and the second best of a search, in double.
struct Winner {
  std::vector<double> scale;
  double least = INFINITY, second = INFINITY;

  void offer(double loss, const std::vector<double>& s) {
    if (loss < least) {
      second = least;
      least = loss;
      scale = s;
    } else {
      second = std::fmin(second, loss);
    }
  }
};

}  // namespace octet::tests
