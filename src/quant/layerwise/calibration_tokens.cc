#include "src/quant/layerwise/calibration_tokens.h"

#include <numeric>
#include <utility>

#include "src/quant/layerwise/group_quantizer.h"
#include "src/quant/layerwise/range_search.h"

namespace octet {

namespace {

std::vector<int32_t> ids_of(const CalibrationData& data) {
  std::vector<int32_t> ids;
  for (const TokenBatch& batch : data.samples)
    for (const std::vector<int32_t>& text : batch) ids.insert(ids.end(), text.begin(), text.end());
  return ids;
}

std::vector<size_t> lengths_of(const CalibrationData& data) {
  std::vector<size_t> lengths;
  for (const TokenBatch& batch : data.samples)
    for (const std::vector<int32_t>& text : batch) lengths.push_back(text.size());
  return lengths;
}

}  // namespace

CalibrationTokens::CalibrationTokens(const CalibrationData& data)
    : CalibrationTokens(ids_of(data), lengths_of(data)) {}

CalibrationTokens::CalibrationTokens(std::vector<int32_t> all, std::vector<size_t> text_lengths)
    : ids(std::move(all)), lengths(std::move(text_lengths)) {
  // Text of one kind often stands together.
  for (size_t i = 0; i < lengths.size(); ++i)
    fold.insert(fold.end(), lengths[i], static_cast<uint8_t>(i * kFolds / lengths.size()));
  ones.assign(size(), 1.0f);

  const size_t every = (size() + kSubsetTokens - 1) / kSubsetTokens;
  size_t row = 0;
  for (size_t i = 0; i < lengths.size(); row += lengths[i++]) {
    if (i % every != 0) continue;
    subset_lengths.push_back(lengths[i]);
    for (size_t t = row; t < row + lengths[i]; ++t) subset.push_back(t);
  }
  subset_fold = of_subset(fold);
  subset_ones.assign(subset.size(), 1.0f);
}

void CalibrationTokens::use_all() {
  subset.resize(size());
  std::iota(subset.begin(), subset.end(), size_t{0});
  subset_lengths = lengths;
  subset_fold = fold;
  subset_ones = ones;
}

std::vector<float> CalibrationTokens::subset_rows(const float* x, size_t k) const {
  std::vector<float> rows;
  rows.reserve(subset.size() * k);
  for (size_t t : subset) rows.insert(rows.end(), x + t * k, x + (t + 1) * k);
  return rows;
}

std::vector<double> CalibrationTokens::subset_mean(const float* x, size_t k,
                                                   const std::vector<float>& weight,
                                                   ThreadTeam& team) const {
  return weighted_mean(x, subset, k, of_subset(weight), team);
}

CalibrationTokens CalibrationTokens::of_subset_only() const {
  CalibrationTokens some(of_subset(ids), subset_lengths);
  some.use_all();
  return some;
}

}  // namespace octet
