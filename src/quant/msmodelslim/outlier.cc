#include "src/quant/msmodelslim/outlier.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

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

bool OutlierMethod::applies(LayerPart part, int64_t) const { return part_row(part).after_norm(); }

std::unique_ptr<OutlierMethod> make_outlier_method(const ToolMethod& m, const FlexSmooth& flex,
                                                   bool as_the_tool) {
  const std::optional<float> alpha = m.smooth ? m.smooth->alpha : std::nullopt;
  switch (m.anti_method) {
    case AntiMethod::kNone:
      return nullptr;
    case AntiMethod::kM1:
      return make_m1(alpha);
    case AntiMethod::kM2:
      return make_m2();
    case AntiMethod::kM3:
      return make_m3(m.asymmetric_weights, as_the_tool);
    case AntiMethod::kM4:
      return make_m4(alpha);
    case AntiMethod::kM5:
      return make_m5();
    case AntiMethod::kM6:
      return make_m6(flex);
  }
  OCTET_CHECK(false);
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

std::vector<float> smooth_scale(const SmoothTarget& target, float alpha) {
  return power_scale(target.stats.amplitude(), weight_amplitude(target), alpha, 1 - alpha);
}

void average_heads(const SmoothTarget& target, std::vector<float>& values) {
  combine_heads(target, values, static_cast<float>(target.group_heads),
                [](float a, float b) { return a + b; });
}

void maximize_heads(const SmoothTarget& target, std::vector<float>& values) {
  combine_heads(target, values, 1, [](float a, float b) { return std::max(a, b); });
}

}  // namespace octet
