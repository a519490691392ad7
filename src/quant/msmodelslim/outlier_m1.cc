// m1 (SmoothQuant): a power of the input's amplitude over one of the weights'.
#include "src/quant/msmodelslim/outlier_methods.h"

namespace octet {
namespace {

class M1 final : public OutlierMethod {
 public:
  explicit M1(float alpha) : alpha_(alpha) {}
  std::vector<float> scale(const SmoothTarget& target, ThreadTeam&) const override {
    return smooth_scale(target, alpha_);
  }

 private:
  float alpha_;
};

}  // namespace

std::unique_ptr<OutlierMethod> make_m1(std::optional<float> alpha) {
  return std::make_unique<M1>(alpha.value_or(0.5f));
}

}  // namespace octet
