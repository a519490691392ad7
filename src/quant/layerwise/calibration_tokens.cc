#include "src/quant/layerwise/calibration_tokens.h"

#include "src/quant/layerwise/group_quantizer.h"
#include "src/quant/layerwise/range_search.h"

namespace octet {

CalibrationTokens::CalibrationTokens(const CalibrationData& data) {
  for (const TokenBatch& batch : data.samples)
    for (const std::vector<int32_t>& text : batch) {
      lengths.push_back(text.size());
      ids.insert(ids.end(), text.begin(), text.end());
    }
  // Text of one kind often stands together.
  for (size_t i = 0; i < lengths.size(); ++i)
    fold.insert(fold.end(), lengths[i], static_cast<uint8_t>(i * kFolds / lengths.size()));
  ones.assign(size(), 1.0f);

  const size_t every = (size() + kPartTokens - 1) / kPartTokens;
  size_t row = 0;
  for (size_t i = 0; i < lengths.size(); row += lengths[i++]) {
    if (i % every != 0) continue;
    part_lengths.push_back(lengths[i]);
    for (size_t t = row; t < row + lengths[i]; ++t) part.push_back(t);
  }
  part_fold = of_part(fold);
  part_ones.assign(part.size(), 1.0f);
}

std::vector<float> CalibrationTokens::part_rows(const float* x, size_t k) const {
  std::vector<float> rows;
  rows.reserve(part.size() * k);
  for (size_t t : part) rows.insert(rows.end(), x + t * k, x + (t + 1) * k);
  return rows;
}

std::vector<double> CalibrationTokens::part_mean(const float* x, size_t k,
                                                 const std::vector<float>& weight) const {
  return weighted_mean(part_rows(x, k).data(), part.size(), k, of_part(weight));
}

}  // namespace octet
