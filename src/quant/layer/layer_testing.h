// Weights for tests.
#pragma once

#include <random>
#include <utility>
#include <vector>

#include "src/quant/layer/float_layer.h"

namespace octet::tests {

inline FloatWeight weight(size_t n, size_t k, std::vector<float> w) {
  FloatWeight f;
  f.shape = {n, k, false};
  f.w = std::move(w);
  return f;
}

inline FloatWeight random_weight(size_t n, size_t k, std::mt19937& rng) {
  std::normal_distribution<float> normal;
  std::vector<float> w(n * k);
  for (float& v : w) v = normal(rng);
  return weight(n, k, std::move(w));
}

}  // namespace octet::tests
