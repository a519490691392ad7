// m1 (SmoothQuant) and m4 (iterative smooth): a power of the input's amplitude over one of the
// weights'; m4 in every part, with one scale for the heads that one head of values feeds.
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

std::vector<float> scale_by_power(const SmoothTarget& target, float alpha) {
  return power_scale(target.stats.amplitude(), weight_amplitude(target), alpha, 1 - alpha);
}

class M1 final : public OutlierMethod {
 public:
  explicit M1(float alpha) : alpha_(alpha) {}
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam&) const override {
    return scale_by_power(target, alpha_);
  }

 private:
  float alpha_;
};

class M4 final : public OutlierMethod {
 public:
  explicit M4(float alpha) : alpha_(alpha) {}
  bool applies(LayerPart, int64_t) const override { return true; }
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam&) const override {
    std::vector<float> s = scale_by_power(target, alpha_);
    average_heads(target, s);
    return s;
  }

 private:
  float alpha_;
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m1(std::optional<float> alpha) {
  return std::make_unique<M1>(alpha.value_or(0.5f));
}
std::unique_ptr<OutlierMethod> make_m4(std::optional<float> alpha) {
  return std::make_unique<M4>(alpha.value_or(0.9f));
}

}  // namespace octet
