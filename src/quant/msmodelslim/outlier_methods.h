// The scales of the single methods; smoothing_scale() in outlier.h chooses.
#pragma once

#include <vector>

#include "src/quant/msmodelslim/outlier.h"

namespace octet {

inline constexpr float kMinScale = 1e-5f;

// The largest |w| of each input channel over all linears of the group: [k].
std::vector<float> weight_amplitude(const SmoothTarget& target);
// max(kMinScale, a^alpha / max(kMinScale, w)^beta) for each channel.
std::vector<float> power_scale(const std::vector<float>& a, const std::vector<float>& w,
                               float alpha, float beta);

// The scales [k] of a group's input by m2, m3 and so on (docs/quantization.md has their formulas).
// `asymmetric`: as its weights will be rounded.
std::vector<float> scale_m2(const SmoothTarget& target, ThreadTeam& team);
std::vector<float> scale_m3(const SmoothTarget& target, bool asymmetric, ThreadTeam& team);
std::vector<float> scale_m5(const OutlierStats& stats);
std::vector<float> scale_m6(const SmoothTarget& target, const FlexSmooth& flex, ThreadTeam& team);

// Replaces values [heads, k / heads] of the heads of one group by their mean (or maximum).
void average_heads(const SmoothTarget& target, std::vector<float>& values);
void maximize_heads(const SmoothTarget& target, std::vector<float>& values);

}  // namespace octet
