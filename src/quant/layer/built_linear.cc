#include "src/quant/layer/built_linear.h"

#include "src/quant/int8/encode.h"
#include "src/quant/layer/shared_linear.h"

namespace octet {

std::unique_ptr<Linear> build_linear(const std::vector<std::string>& names,
                                     const std::vector<const FloatWeight*>& weights,
                                     const std::vector<QuantizedLinear>& quantized, Scheme scheme,
                                     ThreadTeam& team, Communicator& ranks) {
  if (scheme == Scheme::kFloat) return shared(pack_float(weights, team), ranks);
  std::vector<int8_t> all;
  W8A8Params fixed{quantized[0].input.scale, quantized[0].input.offset, {}, {}};
  DynamicParams dynamic;
  size_t n = 0;
  for (size_t i = 0; i < weights.size(); ++i) {
    const QuantizedLinear& q = quantized[i];
    const std::vector<float>& bias = q.corrected_bias.empty() ? weights[i]->bias : q.corrected_bias;
    const auto append = [](auto& to, const auto& from) {
      to.insert(to.end(), from.begin(), from.end());
    };
    append(all, q.rounded->q);
    if (scheme == Scheme::kW8A8) {
      append(fixed.deq_scale, deq_scale(*q.rounded, q.input));
      append(fixed.quant_bias, quant_bias(names[i], *q.rounded, q.input, bias, false));
    } else {
      append(dynamic.weight_scale, q.rounded->scale);
      append(dynamic.bias, bias);
    }
    n += weights[i]->shape.n;
  }
  const size_t k = weights[0]->shape.k;
  if (scheme == Scheme::kW8A8)
    return shared(std::make_unique<W8A8Linear>(all.data(), n, k, fixed, team), ranks);
  return shared(std::make_unique<DynamicLinear>(
                    std::make_shared<Int8Weights>(all.data(), n, k, team), dynamic),
                ranks);
}

}  // namespace octet
