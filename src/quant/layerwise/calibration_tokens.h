// The calibration tokens of a recipe, all texts one after another, and the part of them that the
// quantized stream holds.
#pragma once

#include <cstdint>
#include <vector>

#include "src/quant/settings/calibration.h"

namespace octet {

// The quantized stream holds about so many of the tokens, whole texts: ranges need all, to see rare
// values, but the second moments that weights are rounded by do not.
inline constexpr size_t kPartTokens = 8192;

struct CalibrationTokens {
  explicit CalibrationTokens(const CalibrationData& data);

  size_t size() const { return ids.size(); }

  std::vector<int32_t> ids;
  std::vector<size_t> lengths;  // of the texts
  std::vector<uint8_t> fold;    // [size()] for cross-validation: neighbouring texts in one
  std::vector<float> ones;      // [size()]

  std::vector<size_t> part;  // rows of the quantized stream: every n-th text
  std::vector<size_t> part_lengths;
  std::vector<uint8_t> part_fold;
  std::vector<float> part_ones;

  template <typename T>
  std::vector<T> of_part(const std::vector<T>& all) const {
    std::vector<T> v(part.size());
    for (size_t i = 0; i < v.size(); ++i) v[i] = all[part[i]];
    return v;
  }
  // The part's rows [part.size(), k] of x [size(), k].
  std::vector<float> part_rows(const float* x, size_t k) const;
  // Their mean [k], weighted by the part's of `weight` [size()].
  std::vector<double> part_mean(const float* x, size_t k, const std::vector<float>& weight) const;
};

}  // namespace octet
