#include "src/quant/group_quantizer.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/model/input_grid.h"
#include "src/quant/encode.h"
#include "src/quant/gptq.h"
#include "src/quant/range_search.h"

namespace octet {
namespace {

constexpr size_t kRangeTokens = 4096;  // a range is searched on about so many of the tokens

float token_scale(const float* x, size_t k) {
  float top = 0;
  for (size_t i = 0; i < k; ++i) top = std::max(top, std::fabs(x[i]));
  return std::max(top / 127.0f, 1e-30f);
}

// sum over linears and outputs of W^2, per input channel.
std::vector<float> channel_weights(const std::vector<const FloatWeight*>& weights, size_t k,
                                   ThreadTeam& team) {
  std::vector<float> sums(k, 0.0f);
  team.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(k, 16);
    for (const FloatWeight* w : weights)
      for (size_t j = 0; j < w->shape.n; ++j)
        for (size_t i = begin; i < end; ++i) sums[i] += w->w[j * k + i] * w->w[j * k + i];
  });
  return sums;
}

// The inputs as the quantized linear sees them [tokens, k].
std::vector<float> on_grid(const GroupInput& in, Scheme scheme, QuantParams params,
                           ThreadTeam& team) {
  std::vector<float> grid(in.tokens * in.k);
  const InputGrid levels{scheme != Scheme::kW8A8, params.scale, params.offset};
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.tokens);
    for (size_t t = begin; t < end; ++t)
      levels.round(in.x + t * in.k, in.k, grid.data() + t * in.k);
  });
  return grid;
}

}  // namespace

std::vector<double> weighted_mean(const float* x, size_t tokens, size_t k,
                                  std::span<const float> weight) {
  std::vector<double> mean(k, 0.0);
  double total = 0;
  for (size_t t = 0; t < tokens; ++t) {
    total += double{weight[t]};
    for (size_t i = 0; i < k; ++i) mean[i] += double{weight[t]} * double{x[t * k + i]};
  }
  for (double& v : mean) v /= total;
  return mean;
}

QuantParams GroupQuantizer::find_range(const GroupInput& in,
                                       const std::vector<const FloatWeight*>& weights) {
  if (in.params) return *in.params;
  const std::vector<float> channel = channel_weights(weights, in.k, team_);
  if (recipe_.ranges == RangeMethod::kMinMax)
    return full_range({in.x, in.k, in.tokens, in.k, in.weight.data(), channel.data()}, stored_,
                      team_);
  return search_range({in.x, in.k, in.tokens, in.k, in.weight.data(), channel.data()}, stored_,
                      std::max<size_t>(1, in.tokens / kRangeTokens), team_);
}

InputError GroupQuantizer::input_error(const GroupInput& in,
                                       const std::vector<const FloatWeight*>& weights) {
  const std::vector<float> channel = channel_weights(weights, in.k, team_);
  const size_t stride = std::max<size_t>(1, in.tokens / kRangeTokens);
  const RangeProblem p{in.x, in.k, in.tokens, in.k, in.weight.data(), channel.data()};
  InputError e{range_loss(p, find_range(in, weights), stride, team_), 0, 0};
  for (size_t t = 0; t < in.tokens; t += stride) {
    const float* x = in.x + t * in.k;
    const float scale = token_scale(x, in.k);
    double error = 0, signal = 0;
    for (size_t i = 0; i < in.k; ++i) {
      const float d = round_even(x[i] / scale) * scale - x[i];
      error += double{channel[i] * d * d};
      signal += double{channel[i] * x[i] * x[i]};
    }
    e.per_token += double{in.weight[t]} * error;
    e.signal += double{in.weight[t]} * signal;
  }
  for (double* sum : {&e.fixed, &e.per_token, &e.signal}) *sum *= static_cast<double>(stride);
  return e;
}

std::vector<QuantizedLinear> GroupQuantizer::quantize(
    const GroupInput& in, const std::vector<const FloatWeight*>& weights, Scheme scheme,
    const std::vector<double>* mean_input, const std::vector<double>* mean_output) {
  OCTET_CHECK(scheme == Scheme::kW8A8 || scheme == Scheme::kW8A8Dynamic);
  QuantParams params;
  if (scheme == Scheme::kW8A8) params = find_range(in, weights);
  const std::vector<float> grid = on_grid(in, scheme, params, team_);
  std::optional<RoundingPlan> plan;
  if (recipe_.gptq_damping) {
    Hessian hessian(in.k, team_);
    hessian.add(grid.data(), in.k, in.tokens, in.weight.data());
    plan = plan_rounding(hessian, *recipe_.gptq_damping, team_);
  }
  const std::vector<double> got = weighted_mean(grid.data(), in.tokens, in.k, in.weight);
  std::vector<double> own;
  if (recipe_.bias == BiasTarget::kFloat && mean_input != nullptr)
    own = *mean_input;
  else
    own = weighted_mean(in.x, in.tokens, in.k, in.weight);
  std::vector<QuantizedLinear> all;
  size_t row = 0;
  for (const FloatWeight* w : weights) {
    QuantizedLinear& q = all.emplace_back();
    q.rounded = plan ? round_weight_gptq(w->w, w->shape.n, in.k, *plan, team_)
                     : round_weight(w->w, w->shape.n, in.k, false, team_);
    q.input = params;
    // Per token the bias is a tensor of the model, which only some linears have.
    if (recipe_.bias == BiasTarget::kNone || (scheme != Scheme::kW8A8 && w->bias.empty())) {
      row += w->shape.n;
      continue;
    }
    q.corrected_bias.resize(w->shape.n);
    for (size_t j = 0; j < w->shape.n; ++j, ++row) {
      const double bias = w->bias.empty() ? 0.0 : double{w->bias[j]};
      double computed = 0, wanted = 0;
      for (size_t i = 0; i < in.k; ++i) {
        computed += got[i] * q.rounded->q[j * in.k + i] * double{q.rounded->scale[j]};
        wanted += own[i] * double{w->w[j * in.k + i]};
      }
      wanted += bias;
      if (recipe_.bias == BiasTarget::kFloat && mean_output != nullptr)
        wanted = (*mean_output)[row];
      q.corrected_bias[j] = static_cast<float>(wanted - computed);
    }
  }
  return all;
}

std::unique_ptr<Linear> build_linear(const std::vector<const FloatWeight*>& weights,
                                     const std::vector<QuantizedLinear>& quantized, Scheme scheme,
                                     ThreadTeam& team) {
  if (scheme == Scheme::kFloat) return pack_float(weights, team);
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
      append(fixed.quant_bias, quant_bias(*q.rounded, q.input, bias, false));
    } else {
      append(dynamic.weight_scale, q.rounded->scale);
      append(dynamic.bias, bias);
    }
    n += weights[i]->shape.n;
  }
  const size_t k = weights[0]->shape.k;
  if (scheme == Scheme::kW8A8) return std::make_unique<W8A8Linear>(all.data(), n, k, fixed, team);
  return std::make_unique<DynamicLinear>(std::make_shared<Int8Weights>(all.data(), n, k, team),
                                         dynamic);
}

}  // namespace octet
