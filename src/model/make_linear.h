// Which class computes which quantization type.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "src/checkpoint/quant_description.h"
#include "src/kernels/kernels.h"
#include "src/machine/thread_team.h"
#include "src/model/int8_linear.h"
#include "src/model/linear.h"

namespace octet {

// A linear's numbers, as far as its type has them.
struct LinearParams {
  WeightSource weights;     // of `type`; not kept
  kernels::FloatType type;  // kI8 unless the weights are floats
  size_t n, k;
  W8A8Params fixed{};                  // W8A8 and W8A8_MIX
  std::vector<float> weight_scale{};   // [n]: W8A8_DYNAMIC, W8A8_MIX, W8A16
  std::vector<float> weight_offset{};  // [n], or empty for symmetric weights: W8A16
  std::vector<float> bias{};           // [n] or empty: all but W8A8
};

// Packs with all workers of `team`.
std::unique_ptr<Linear> make_linear(Scheme scheme, const LinearParams& params, ThreadTeam& team);

}  // namespace octet
