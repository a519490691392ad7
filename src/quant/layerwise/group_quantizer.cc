#include "src/quant/layerwise/group_quantizer.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/model/input_grid.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layerwise/gptq.h"
#include "src/quant/layerwise/range_search.h"

namespace octet {
namespace {

constexpr size_t kRangeTokens = 4096;  // a range is searched on about so many of the tokens

// The inputs as the quantized linear sees them [tokens, k].
std::vector<float> on_grid(const GroupInput& in, Scheme scheme, QuantParams params,
                           ThreadTeam& team) {
  std::vector<float> grid(in.tokens * in.k);
  const InputGrid levels{!is_static(scheme), params.scale, params.offset};
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.tokens);
    for (size_t t = begin; t < end; ++t)
      levels.round(in.x + t * in.k, in.k, grid.data() + t * in.k);
  });
  return grid;
}

// `channel` [k]: the cost of a squared error of every input.
RangeProblem problem(const GroupInput& in, const std::vector<float>& channel) {
  RangeProblem p{in.x, in.k, in.tokens, in.k, in.weight.data(), channel.data()};
  p.stride = std::max<size_t>(1, in.tokens / kRangeTokens);
  p.fold = in.fold.data();
  return p;
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

InputError GroupQuantizer::input_error(const GroupInput& in,
                                       const std::vector<const FloatWeight*>& weights) {
  const std::vector<double> squares = column_squares(weights, team_);
  const std::vector<float> channel(squares.begin(), squares.end());
  const RangeProblem p = problem(in, channel);
  InputError e{
      range_loss(p, find_range(p, recipe_.or_default<FindRanges>().fit, stored_, team_), team_), 0,
      0};
  const InputGrid levels{true, 1, 0};
  std::vector<float> rounded(in.k);
  for (size_t t = 0; t < in.tokens; t += p.stride) {
    const float* x = in.x + t * in.k;
    levels.round(x, in.k, rounded.data());
    double error = 0, signal = 0;
    for (size_t i = 0; i < in.k; ++i) {
      const double d = double{rounded[i]} - double{x[i]};
      error += squares[i] * d * d;
      signal += squares[i] * double{x[i]} * double{x[i]};
    }
    e.per_token += double{in.weight[t]} * error;
    e.signal += double{in.weight[t]} * signal;
  }
  for (double* sum : {&e.fixed, &e.per_token, &e.signal}) *sum *= static_cast<double>(p.stride);
  return e;
}

std::vector<QuantizedLinear> GroupQuantizer::quantize(
    const GroupInput& in, const std::vector<const FloatWeight*>& weights, Scheme scheme,
    const WantedMeans& means) {
  OCTET_CHECK(has_static_input(scheme) != scales_per_token(scheme));
  QuantParams params;
  if (in.params) {
    params = *in.params;
  } else if (is_static(scheme)) {
    const std::vector<double> squares = column_squares(weights, team_);
    const std::vector<float> channel(squares.begin(), squares.end());
    params = find_range(problem(in, channel), recipe_.or_default<FindRanges>().fit, stored_, team_);
  }
  const std::vector<float> grid = on_grid(in, scheme, params, team_);
  std::optional<RoundingPlan> plan;
  if (const std::optional<double> damping = recipe_.gptq_damping())
    plan = plan_rounding({grid.data(), in.k, in.tokens, in.weight.data()}, *damping, team_, ranks_);
  const std::vector<double> got = weighted_mean(grid.data(), in.tokens, in.k, in.weight);
  std::vector<double> own;
  const auto* bias_step = recipe_.find<CorrectBias>();
  const bool as_float = bias_step && bias_step->target == BiasTarget::kFloat;
  if (as_float && means.input != nullptr)
    own = *means.input;
  else
    own = weighted_mean(in.x, in.tokens, in.k, in.weight);
  std::vector<QuantizedLinear> all;
  size_t row = 0;
  for (const FloatWeight* w : weights) {
    QuantizedLinear& q = all.emplace_back();
    q.rounded = plan ? round_weight_gptq(w->w, w->shape.n, in.k, *plan, team_, ranks_)
                     : round_weight(w->w, w->shape.n, in.k, false, team_);
    q.input = params;
    // Per token the bias is a tensor of the model, which only some linears have.
    if (!bias_step || (!is_static(scheme) && w->bias.empty())) {
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
      if (as_float && means.output != nullptr) wanted = (*means.output)[row];
      q.corrected_bias[j] = static_cast<float>(wanted - computed);
      if (!is_static(scheme))  // as it will be stored
        q.corrected_bias[j] = round_to(q.corrected_bias[j], stored_);
    }
  }
  return all;
}

}  // namespace octet
