// The calibration tokens of a recipe, all texts one after another, and the subset of them that the
// quantized stream holds.
#pragma once

#include <cstdint>
#include <vector>

#include "src/machine/thread_team.h"
#include "src/quant/settings/calibration.h"

namespace octet {

// The quantized stream holds about so many of the tokens, whole texts, and types are measured on
// them: ranges need all, to see rare values, but the second moments that weights are rounded by,
// and errors that are compared, do not.
inline constexpr size_t kSubsetTokens = 8192;

struct CalibrationTokens {
  explicit CalibrationTokens(const CalibrationData& data);
  // Texts one after another, of the given lengths.
  CalibrationTokens(std::vector<int32_t> all, std::vector<size_t> text_lengths);

  size_t size() const { return ids.size(); }

  std::vector<int32_t> ids;
  std::vector<size_t> lengths;  // of the texts
  std::vector<uint8_t> fold;    // [size()] for cross-validation: neighbouring texts in one
  std::vector<float> ones;      // [size()]

  std::vector<size_t> subset;  // rows of the quantized stream: every n-th text
  std::vector<size_t> subset_lengths;
  std::vector<uint8_t> subset_fold;
  std::vector<float> subset_ones;

  template <typename T>
  std::vector<T> of_subset(const std::vector<T>& all) const {
    std::vector<T> v(subset.size());
    for (size_t i = 0; i < v.size(); ++i) v[i] = all[subset[i]];
    return v;
  }
  // The subset's rows [subset.size(), k] of x [size(), k].
  std::vector<float> subset_rows(const float* x, size_t k) const;
  // Their mean [k], weighted by the subset's of `weight` [size()].
  std::vector<double> subset_mean(const float* x, size_t k, const std::vector<float>& weight,
                                  ThreadTeam& team) const;
  // The texts of the subset, as all that there are, all of them in its own subset.
  CalibrationTokens of_subset_only() const;

 private:
  void use_all();  // the subset is all
};

}  // namespace octet
