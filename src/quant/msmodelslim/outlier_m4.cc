// m4 (iterative smooth): as m1, in every part of a layer, with one scale for the heads that one
// head of values feeds.
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

class M4 final : public OutlierMethod {
 public:
  explicit M4(float alpha) : alpha_(alpha) {}
  bool applies(LayerPart, int64_t) const override { return true; }
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam&) const override {
    std::vector<float> s = smooth_scale(target, alpha_);
    average_heads(target, s);
    return s;
  }

 private:
  float alpha_;
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m4(std::optional<float> alpha) {
  return std::make_unique<M4>(alpha.value_or(0.9f));
}

}  // namespace octet
