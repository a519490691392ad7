// The single methods, and what they share; make_outlier_method() chooses.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "src/quant/msmodelslim/outlier.h"

namespace octet {

inline constexpr float kMinScale = 1e-5f;

// The largest |w| of each input channel over all linears of the group: [k].
std::vector<float> weight_amplitude(const SmoothTarget& target);
// max(kMinScale, a^alpha / max(kMinScale, w)^beta) for each channel.
std::vector<float> power_scale(const std::vector<float>& a, const std::vector<float>& w,
                               float alpha, float beta);
// Of the input's amplitudes and weight_amplitude(), with beta = 1 - alpha: SmoothQuant's.
std::vector<float> smooth_scale(const SmoothTarget& target, float alpha);

// The methods (docs/quantization.md has their formulas). m1 and m4 scale by input amplitude ^ alpha
// / weight amplitude ^ (1 - alpha); without an alpha, each by its own.
std::unique_ptr<OutlierMethod> make_m1(std::optional<float> alpha);
std::unique_ptr<OutlierMethod> make_m2();
// `asymmetric`: as the weights will be rounded. `one_batch`: from the first batch only, as the
// tool.
std::unique_ptr<OutlierMethod> make_m3(bool asymmetric, bool one_batch);
std::unique_ptr<OutlierMethod> make_m4(std::optional<float> alpha);
std::unique_ptr<OutlierMethod> make_m5();
std::unique_ptr<OutlierMethod> make_m6(const FlexSmooth& flex);

// Replaces values [heads, k / heads] of the heads of one group by their mean (or maximum).
void average_heads(const SmoothTarget& target, std::vector<float>& values);
void maximize_heads(const SmoothTarget& target, std::vector<float>& values);

}  // namespace octet
