#include "src/quant/layerwise/range_search.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "src/base/error.h"
#include "src/base/int8_grid.h"
#include "src/quant/int8/weight_rounding.h"

namespace octet {
namespace {

constexpr size_t kLanes = 8;
constexpr std::array kMargins = {1.0, 1.05, 1.1, 1.2, 1.35, 1.5, 1.75, 2.0};

// All tokens, or those in or outside one fold.
struct FoldFilter {
  enum { kAll, kInside, kOutside } side = kAll;
  uint8_t fold = 0;
  bool holds(const RangeProblem& p, size_t t) const {
    return side == kAll || (p.fold[t] == fold) == (side == kInside);
  }
};

// Calls visit(worker, x of the token, t) for every `stride`-th token of the part.
template <typename Visit>
void visit_tokens(const RangeProblem& p, FoldFilter part, size_t stride, ThreadTeam& team,
                  const Visit& visit) {
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share((p.m + stride - 1) / stride);
    for (size_t t = begin * stride; t < std::min(p.m, end * stride); t += stride)
      if (part.holds(p, t)) visit(w.id(), p.x + t * p.ldx, t);
  });
}

Range extremes(const RangeProblem& p, FoldFilter part, ThreadTeam& team) {
  std::vector<Range> parts(team.size());
  visit_tokens(p, part, 1, team, [&](size_t worker, const float* x, size_t) {
    parts[worker] = widened(parts[worker], {x, p.k});
  });
  Range all;
  for (const Range& r : parts) all = {std::min(all.min, r.min), std::max(all.max, r.max)};
  return all;
}

// Zero and the sides that hold the share `q` of the inputs each, to a 4096th of the extremes.
Range quantiles(const RangeProblem& p, FoldFilter part, double q, ThreadTeam& team) {
  constexpr size_t kBins = 4096;
  const Range all = extremes(p, part, team);
  const float width = all.max - all.min;
  if (width == 0) return all;
  std::vector<std::vector<uint64_t>> parts(team.size(), std::vector<uint64_t>(kBins, 0));
  visit_tokens(p, part, p.stride, team, [&](size_t worker, const float* x, size_t) {
    for (size_t i = 0; i < p.k; ++i) {
      const float at = (x[i] - all.min) / width * float{kBins};
      ++parts[worker][std::min(static_cast<size_t>(std::max(at, 0.0f)), kBins - 1)];
    }
  });
  std::vector<uint64_t> counts(kBins, 0);
  uint64_t total = 0;
  for (const auto& c : parts)
    for (size_t b = 0; b < kBins; ++b) {
      counts[b] += c[b];
      total += c[b];
    }
  const double outside = (1 - q) * static_cast<double>(total);
  const auto edge = [&](size_t bin) {
    return all.min + width * static_cast<float>(bin) / float{kBins};
  };
  size_t low = 0, high = kBins;
  for (double n = 0; low < kBins && (n += static_cast<double>(counts[low])) <= outside;) ++low;
  for (double n = 0; high > 0 && (n += static_cast<double>(counts[high - 1])) <= outside;) --high;
  return {std::min(edge(low), 0.0f), std::max(edge(high), 0.0f)};
}

double loss(const RangeProblem& p, QuantParams params, FoldFilter part, ThreadTeam& team) {
  // By token, and added up in their order: the same bits for any number of threads.
  std::vector<double> parts((p.m + p.stride - 1) / p.stride, 0.0);
  const Int8Grid<GridRule{.by_inverse = true}> grid(params.scale, params.offset);
  visit_tokens(p, part, p.stride, team, [&](size_t, const float* x, size_t t) {
    // Side by side: a sum waits for the one before it.
    std::array<float, kLanes> row{};
    const auto add = [&](size_t i, size_t lane) {
      const float e = grid.value(x[i]) - x[i];
      row[lane] += p.channel_weight[i] * e * e;
    };
    size_t i = 0;
    for (; i + kLanes <= p.k; i += kLanes)
      for (size_t lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
    for (; i < p.k; ++i) add(i, 0);
    parts[t / p.stride] =
        double{p.token_weight[t]} * double{std::accumulate(row.begin(), row.end(), 0.0f)};
  });
  double total = 0;
  for (double v : parts) total += v;
  return total;
}

Range search(const RangeProblem& p, FoldFilter part, DType stored, ThreadTeam& team) {
  const Range all = extremes(p, part, team);
  Range range = all;
  double least = loss(p, params_of(all, stored), part, team);
  // One side after the other, twice: shrinks a side until that has not paid three times in a row.
  const auto shrink = [&](float Range::*side) {
    size_t failures = 0;
    for (float f = 1; f > 0.01f && failures < 3; f *= 0.93f) {
      Range r = range;
      r.*side = all.*side * f;
      const double now = loss(p, params_of(r, stored), part, team);
      if (now < least) {
        least = now;
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
  return range;
}

Range fitted(const RangeProblem& p, FoldFilter part, const RangeFit& rule, DType stored,
             ThreadTeam& team) {
  if (rule.method == RangeMethod::kMinMax) return extremes(p, part, team);
  if (rule.method == RangeMethod::kQuantile) return quantiles(p, part, rule.quantile, team);
  return search(p, part, stored, team);
}

Range stretched(Range r, double margin) {
  return {r.min * static_cast<float>(margin), r.max * static_cast<float>(margin)};
}

double validated_margin(const RangeProblem& p, const RangeFit& rule, DType stored,
                        ThreadTeam& team) {
  OCTET_CHECK(p.fold != nullptr);
  std::array<double, kMargins.size()> losses{};
  for (uint8_t f = 0; f < kFolds; ++f) {
    const Range range = fitted(p, {FoldFilter::kOutside, f}, rule, stored, team);
    for (size_t i = 0; i < kMargins.size(); ++i)
      losses[i] +=
          loss(p, params_of(stretched(range, kMargins[i]), stored), {FoldFilter::kInside, f}, team);
  }
  return kMargins[static_cast<size_t>(std::min_element(losses.begin(), losses.end()) -
                                      losses.begin())];
}

}  // namespace

double range_loss(const RangeProblem& p, QuantParams params, ThreadTeam& team) {
  return loss(p, params, {}, team);
}

QuantParams find_range(const RangeProblem& p, const RangeFit& rule, DType stored,
                       ThreadTeam& team) {
  const double margin = rule.margin ? *rule.margin : validated_margin(p, rule, stored, team);
  return params_of(stretched(fitted(p, {}, rule, stored, team), margin), stored);
}

}  // namespace octet
