// Orthogonal rotations that are merged into weights: R1 of the residual stream, R2 of every head
// (QuaRot, arXiv 2404.00456; SpinQuant, arXiv 2405.16406). They spread outliers over all channels
// and leave the float model's function as it is.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "src/machine/thread_team.h"

namespace octet {

struct RotationOptions {
  std::optional<uint64_t> residual;  // R1 with this seed: fuses the norms, unties the head
  std::optional<uint64_t> values;    // R2 with this seed
};

// R = diag(signs) (Q x H): Q a random orthogonal matrix of the odd factor of n, H the normalized
// Hadamard matrix of its power of two. Applying it costs n (odd + log2) operations a row.
class Rotation {
 public:
  // The same seed gives the same matrix everywhere. n >= 1.
  Rotation(size_t n, uint64_t seed);
  size_t size() const { return n_; }

  // x <- x R for one row x [n].
  void apply(float* x) const;
  // W <- W R, rows of W [rows, n].
  void apply_rows(float* w, size_t rows, ThreadTeam& team) const;
  // W <- R^T W, columns of W [n, k].
  void apply_columns(float* w, size_t k, ThreadTeam& team) const;

 private:
  size_t n_, odd_, power_;
  std::vector<float> signs_;  // [n]
  std::vector<float> q_;      // [odd, odd]
};

}  // namespace octet
