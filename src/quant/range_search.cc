#include "src/quant/range_search.h"

#include <algorithm>
#include <cmath>

#include "src/quant/weight_rounding.h"

namespace octet {
namespace {

Range extremes(const RangeProblem& p, ThreadTeam& team) {
  std::vector<Range> parts(team.size());
  team.run([&](Worker& w) {
    Range r;
    const auto [begin, end] = w.share(p.m);
    for (size_t t = begin; t < end; ++t)
      for (size_t i = 0; i < p.k; ++i) {
        r.min = std::min(r.min, p.x[t * p.ldx + i]);
        r.max = std::max(r.max, p.x[t * p.ldx + i]);
      }
    parts[w.id()] = r;
  });
  Range all;
  for (const Range& r : parts) all = {std::min(all.min, r.min), std::max(all.max, r.max)};
  return all;
}

}  // namespace

double range_loss(const RangeProblem& p, QuantParams params, size_t stride, ThreadTeam& team) {
  std::vector<double> parts(team.size());
  const float lo = -128.0f - params.offset, hi = 127.0f - params.offset;
  const float inverse = 1.0f / params.scale;
  team.run([&](Worker& w) {
    double sum = 0;
    const auto [begin, end] = w.share((p.m + stride - 1) / stride);
    for (size_t t = begin * stride; t < std::min(p.m, end * stride); t += stride) {
      const float* x = p.x + t * p.ldx;
      float row = 0;
      for (size_t i = 0; i < p.k; ++i) {
        const float level = std::min(std::max(round_even(x[i] * inverse), lo), hi);
        const float e = level * params.scale - x[i];
        row += p.channel_weight[i] * e * e;
      }
      sum += double{p.token_weight[t]} * double{row};
    }
    parts[w.id()] = sum;
  });
  double total = 0;
  for (double v : parts) total += v;
  return total;
}

QuantParams full_range(const RangeProblem& p, DType stored, ThreadTeam& team) {
  return params_of(extremes(p, team), stored);
}

QuantParams search_range(const RangeProblem& p, DType stored, size_t stride, ThreadTeam& team) {
  const Range all = extremes(p, team);
  Range range = all;
  QuantParams best = params_of(all, stored);
  double least = range_loss(p, best, stride, team);
  // One side after the other, twice: shrinks a side until that has not paid three times in a row.
  const auto shrink = [&](float Range::*side) {
    size_t failures = 0;
    for (float f = 1; f > 0.01f && failures < 3; f *= 0.93f) {
      Range r = range;
      r.*side = all.*side * f;
      const QuantParams q = params_of(r, stored);
      const double loss = range_loss(p, q, stride, team);
      if (loss < least) {
        least = loss;
        best = q;
        range.*side = r.*side;
        failures = 0;
      } else if (r.*side != range.*side) {
        ++failures;
      }
    }
  };
  for (int round = 0; round < 2; ++round) {
    shrink(&Range::max);
    shrink(&Range::min);
  }
  return best;
}

}  // namespace octet
