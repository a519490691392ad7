#include "src/quant/layer/built_linear.h"

#include "src/model/make_linear.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layer/shared_linear.h"

namespace octet {

std::unique_ptr<Linear> build_linear(const std::vector<std::string>& names,
                                     const std::vector<const FloatWeight*>& weights,
                                     const std::vector<QuantizedLinear>& quantized, Scheme scheme,
                                     ThreadTeam& team, Communicator& ranks) {
  if (!is_quantized(scheme)) return shared(pack_float(weights, team), ranks);
  std::vector<int8_t> w;
  LinearParams all{{}, kernels::FloatType::kI8, 0, weights[0]->shape.k};
  all.fixed.input_scale = quantized[0].input.scale;
  all.fixed.input_offset = quantized[0].input.offset;
  const auto append = [](auto& to, const auto& from) {
    to.insert(to.end(), from.begin(), from.end());
  };
  for (size_t i = 0; i < weights.size(); ++i) {
    const QuantizedLinear& q = quantized[i];
    const std::vector<float>& bias = q.corrected_bias.empty() ? weights[i]->bias : q.corrected_bias;
    append(w, q.rounded->q);
    if (has_static_input(scheme)) {
      append(all.fixed.deq_scale, deq_scale(*q.rounded, q.input));
      append(all.fixed.quant_bias, quant_bias(names[i], *q.rounded, q.input, bias, false));
    }
    if (scales_per_token(scheme)) {
      append(all.weight_scale, q.rounded->scale);
      append(all.bias, bias);
    }
    all.n += weights[i]->shape.n;
  }
  all.weights = contiguous_rows(w.data(), all.k);
  return shared(make_linear(scheme, all, team), ranks);
}

}  // namespace octet
