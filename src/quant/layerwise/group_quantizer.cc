#include "src/quant/layerwise/group_quantizer.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"
#include "src/machine/memory.h"
#include "src/model/input_grid.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layerwise/gptq.h"
#include "src/quant/layerwise/range_search.h"

namespace octet {
namespace {

constexpr size_t kRangeTokens = 4096;  // a range is searched on about so many of the tokens

// The inputs as the quantized linear sees them [tokens, k].
Buffer<float> on_grid(const GroupInput& in, Scheme scheme, QuantParams params, ThreadTeam& team) {
  Buffer<float> grid(in.tokens * in.k);
  const InputGrid levels{!is_static(scheme), params.scale, params.offset};
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.tokens);
    for (size_t t = begin; t < end; ++t)
      levels.round(in.x + t * in.k, in.k, grid.data() + t * in.k);
  });
  return grid;
}

// `row`: of the i-th of `count` rows.
template <typename Row>
std::vector<double> mean_of(size_t count, size_t k, std::span<const float> weight, const Row& row,
                            ThreadTeam& team) {
  constexpr size_t kGrain = 16;  // channels: a cache line
  std::vector<double> mean(k, 0.0);
  double total = 0;
  for (size_t t = 0; t < count; ++t) total += double{weight[t]};
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(k, kGrain);
    for (size_t t = 0; t < count; ++t) {
      const float* x = row(t);
      for (size_t i = begin; i < end; ++i) mean[i] += double{weight[t]} * double{x[i]};
    }
    for (size_t i = begin; i < end; ++i) mean[i] /= total;
  });
  return mean;
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
                                  std::span<const float> weight, ThreadTeam& team) {
  return mean_of(
      tokens, k, weight, [&](size_t t) { return x + t * k; }, team);
}

std::vector<double> weighted_mean(const float* x, std::span<const size_t> rows, size_t k,
                                  std::span<const float> weight, ThreadTeam& team) {
  return mean_of(
      rows.size(), k, weight, [&](size_t t) { return x + rows[t] * k; }, team);
}

InputError GroupQuantizer::input_error(const GroupInput& in,
                                       const std::vector<const FloatWeight*>& weights) {
  const std::vector<double> squares = column_squares(weights, team_);
  const std::vector<float> channel(squares.begin(), squares.end());
  const RangeProblem p = problem(in, channel);
  InputError e{
      range_loss(p, find_range(p, recipe_.or_default<FindRanges>().fit, stored_, team_), team_), 0,
      0};
  struct Sums {
    double error = 0, signal = 0;
  };
  std::vector<Sums> tokens((in.tokens + p.stride - 1) / p.stride);  // added up in their order
  team_.run([&](Worker& w) {
    const InputGrid levels{true, 1, 0};
    std::vector<float> rounded(in.k);
    const auto [begin, end] = w.share(tokens.size());
    for (size_t s = begin; s < end; ++s) {
      const float* x = in.x + s * p.stride * in.k;
      levels.round(x, in.k, rounded.data());
      Sums sums;
      for (size_t i = 0; i < in.k; ++i) {
        const double d = double{rounded[i]} - double{x[i]};
        sums.error += squares[i] * d * d;
        sums.signal += squares[i] * double{x[i]} * double{x[i]};
      }
      tokens[s] = sums;
    }
  });
  for (size_t s = 0; s < tokens.size(); ++s) {
    e.per_token += double{in.weight[s * p.stride]} * tokens[s].error;
    e.signal += double{in.weight[s * p.stride]} * tokens[s].signal;
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
  const Buffer<float> grid = on_grid(in, scheme, params, team_);
  std::optional<RoundingPlan> plan;
  if (const std::optional<double> damping = recipe_.gptq_damping())
    plan = plan_rounding({grid.data(), in.k, in.tokens, in.weight.data()}, *damping, team_, ranks_);
  const std::vector<double> got = weighted_mean(grid.data(), in.tokens, in.k, in.weight, team_);
  std::vector<double> own;
  const auto* bias_step = recipe_.find<CorrectBias>();
  const bool as_float = bias_step && bias_step->target == BiasTarget::kFloat;
  if (as_float && means.input != nullptr)
    own = *means.input;
  else
    own = weighted_mean(in.x, in.tokens, in.k, in.weight, team_);
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
    team_.run([&](Worker& worker) {
      const auto [begin, end] = worker.share(w->shape.n);
      for (size_t j = begin; j < end; ++j) {
        const double bias = w->bias.empty() ? 0.0 : double{w->bias[j]};
        double computed = 0, wanted = 0;
        for (size_t i = 0; i < in.k; ++i) {
          computed += got[i] * q.rounded->q[j * in.k + i] * double{q.rounded->scale[j]};
          wanted += own[i] * double{w->w[j * in.k + i]};
        }
        wanted += bias;
        if (as_float && means.output != nullptr) wanted = (*means.output)[row + j];
        q.corrected_bias[j] = static_cast<float>(wanted - computed);
        if (!is_static(scheme))  // as it will be stored
          q.corrected_bias[j] = round_to(q.corrected_bias[j], stored_);
      }
    });
    row += w->shape.n;
  }
  return all;
}

}  // namespace octet
