#include "src/quant/msmodelslim/outlier.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

// Enough for scales that do not hang on one text; all of fifty cost 60 % more time for the whole
// run.
constexpr size_t kM3Batches = 8;

// Every value of `heads` in a group replaced by combine(values of the group) / divisor.
template <typename Combine>
void combine_heads(const SmoothTarget& t, std::vector<float>& values, float divisor,
                   Combine combine) {
  const size_t width = values.size() / t.heads;
  for (size_t group = 0; group < t.heads; group += t.group_heads)
    for (size_t i = 0; i < width; ++i) {
      float all = values[group * width + i];
      for (size_t h = 1; h < t.group_heads; ++h)
        all = combine(all, values[(group + h) * width + i]);
      for (size_t h = 0; h < t.group_heads; ++h) values[(group + h) * width + i] = all / divisor;
    }
}

}  // namespace

OutlierNeeds outlier_needs(const QuantizeOptions& options, const FlexSmooth& flex) {
  switch (options.anti_method) {
    case AntiMethod::kNone:
    case AntiMethod::kM1:
    case AntiMethod::kM4:
    case AntiMethod::kM5:
      return {};
    case AntiMethod::kM2:
      return {.keep = KeepInputs::kFirstBatch, .deviation = true};
    case AntiMethod::kM3:
      if (options.compat_msmodelslim) return {.batches = 1, .keep = KeepInputs::kFirstBatch};
      return {.batches = kM3Batches, .keep = KeepInputs::kSpread};
    case AntiMethod::kM6:
      return {.keep = flex.exponents ? KeepInputs::kNone : KeepInputs::kAll};
  }
  OCTET_CHECK(false);
}

bool smooths(AntiMethod method, const FlexSmooth& flex, LayerPart part, int64_t layer) {
  if (method == AntiMethod::kNone) return false;
  if (part_row(part).after_norm()) return true;
  if (method == AntiMethod::kM6) return part != LayerPart::kO || layer >= flex.o_kept_below;
  return method == AntiMethod::kM4;
}

std::vector<float> weight_amplitude(const SmoothTarget& target) {
  const size_t k = target.stats.channels();
  std::vector<float> w(k, 0.0f);
  for (const FloatWeight* t : target.weights)
    for (size_t j = 0; j < t->shape.n; ++j)
      for (size_t i = 0; i < k; ++i) w[i] = std::max(w[i], std::fabs(t->w[j * k + i]));
  return w;
}

std::vector<float> power_scale(const std::vector<float>& a, const std::vector<float>& w,
                               float alpha, float beta) {
  std::vector<float> s(a.size());
  for (size_t i = 0; i < s.size(); ++i)
    s[i] = std::max(kMinScale, std::pow(a[i], alpha) / std::pow(std::max(kMinScale, w[i]), beta));
  return s;
}

void average_heads(const SmoothTarget& target, std::vector<float>& values) {
  combine_heads(target, values, static_cast<float>(target.group_heads),
                [](float a, float b) { return a + b; });
}

void maximize_heads(const SmoothTarget& target, std::vector<float>& values) {
  combine_heads(target, values, 1, [](float a, float b) { return std::max(a, b); });
}

std::vector<float> smoothing_scale(const SmoothTarget& target, const QuantizeOptions& options,
                                   const FlexSmooth& flex, ThreadTeam& team) {
  const auto alpha = [&](float own) {
    return options.smooth && options.smooth->alpha ? *options.smooth->alpha : own;
  };
  const auto by_power = [&](float a) {
    return power_scale(target.stats.amplitude(), weight_amplitude(target), a, 1 - a);
  };
  switch (options.anti_method) {
    case AntiMethod::kM1:
      return by_power(alpha(0.5f));
    case AntiMethod::kM2:
      return scale_m2(target, team);
    case AntiMethod::kM3:
      return scale_m3(target, options.asymmetric_weights, team);
    case AntiMethod::kM4: {
      std::vector<float> s = by_power(alpha(0.9f));
      average_heads(target, s);
      return s;
    }
    case AntiMethod::kM5:
      return scale_m5(target.stats);
    case AntiMethod::kM6:
      return scale_m6(target, flex, team);
    case AntiMethod::kNone:
      break;
  }
  OCTET_CHECK(false);
}

}  // namespace octet
