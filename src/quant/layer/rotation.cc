#include "src/quant/layer/rotation.h"

#include <cmath>

#include "src/base/error.h"
#include "src/kernels/kernels.h"

namespace octet {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every platform.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint64_t next() {
    state_ += 0x9e3779b97f4a7c15u;
    uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double uniform() { return static_cast<double>((next() >> 11) + 1) * 0x1p-53; }  // (0, 1]
  double normal() {
    constexpr double kTwoPi = 6.283185307179586;
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(kTwoPi * uniform());
  }

 private:
  uint64_t state_;
};

// Rows of a Gaussian matrix made orthonormal one after another (modified Gram-Schmidt).
std::vector<float> random_orthogonal(size_t n, Random& random) {
  std::vector<double> q(n * n);
  for (size_t i = 0; i < n; ++i) {
    double* row = q.data() + i * n;
    double norm = 0;
    while (norm < 1e-3) {
      for (size_t c = 0; c < n; ++c) row[c] = random.normal();
      for (int pass = 0; pass < 2; ++pass)
        for (size_t j = 0; j < i; ++j) {
          double dot = 0;
          for (size_t c = 0; c < n; ++c) dot += row[c] * q[j * n + c];
          for (size_t c = 0; c < n; ++c) row[c] -= dot * q[j * n + c];
        }
      norm = 0;
      for (size_t c = 0; c < n; ++c) norm += row[c] * row[c];
      norm = std::sqrt(norm);
    }
    for (size_t c = 0; c < n; ++c) row[c] /= norm;
  }
  return {q.begin(), q.end()};
}

}  // namespace

Rotation::Rotation(size_t n, uint64_t seed) : n_(n), odd_(n), power_(1), signs_(n) {
  OCTET_CHECK(n > 0);
  while (odd_ % 2 == 0) {
    odd_ /= 2;
    power_ *= 2;
  }
  Random random(seed);
  for (float& s : signs_) s = (random.next() >> 63) != 0 ? 1.0f : -1.0f;
  q_ = random_orthogonal(odd_, random);
}

void Rotation::apply(float* x) const {
  for (size_t i = 0; i < n_; ++i) x[i] *= signs_[i];
  // As a matrix [odd, power]: a Hadamard transform of every row ...
  for (size_t r = 0; r < odd_; ++r) kernels::table().hadamard(x + r * power_, power_);
  if (odd_ == 1) return;
  // ... then the odd factor across the rows.
  std::vector<float> y(n_, 0.0f);
  for (size_t r = 0; r < odd_; ++r)
    for (size_t c = 0; c < odd_; ++c) {
      const float q = q_[r * odd_ + c];
      for (size_t i = 0; i < power_; ++i) y[c * power_ + i] += q * x[r * power_ + i];
    }
  for (size_t i = 0; i < n_; ++i) x[i] = y[i];
}

void Rotation::apply_rows(float* w, size_t rows, ThreadTeam& team) const {
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(rows);
    for (size_t r = begin; r < end; ++r) apply(w + r * n_);
  });
}

void Rotation::apply_columns(float* w, size_t k, ThreadTeam& team) const {
  constexpr size_t kBlock = 16;  // columns gathered at a time: a cache line
  team.run([&](Worker& worker) {
    std::vector<float> columns(kBlock * n_);
    const auto [begin, end] = worker.share(k, kBlock);
    for (size_t first = begin; first < end; first += kBlock) {
      const size_t count = std::min(kBlock, end - first);
      for (size_t i = 0; i < n_; ++i)
        for (size_t c = 0; c < count; ++c) columns[c * n_ + i] = w[i * k + first + c];
      for (size_t c = 0; c < count; ++c) apply(columns.data() + c * n_);
      for (size_t i = 0; i < n_; ++i)
        for (size_t c = 0; c < count; ++c) w[i * k + first + c] = columns[c * n_ + i];
    }
  });
}

}  // namespace octet
