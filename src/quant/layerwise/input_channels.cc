#include "src/quant/layerwise/input_channels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "src/base/error.h"
#include "src/model/input_grid.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layerwise/channel_copies.h"
#include "src/quant/layerwise/channel_histogram.h"

namespace octet {
namespace {

constexpr std::array kTails = {1.0, 1.15, 1.3, 1.5, 1.75, 2.1, 2.6};
constexpr std::array kPositiveShares = {0.5, 0.57, 0.64, 0.71};
constexpr std::array kPowers = {2.0, 4.0, 8.0, 16.0};
constexpr double kOutside = 0.0005;     // of a channel's weight, on either side of its range
constexpr size_t kErrorTokens = 1024;   // a per-token error is measured on about so many
constexpr size_t kHistogramBlock = 16;  // channels whose values are gathered together: a cache line

constexpr size_t kGathered = size_t{2} << 20;  // values of a worker: 8 MiB

// sum_t weight |x|^p of every channel [channels], divided by the tokens, for the first `powers` of
// kPowers.
using Moments = std::vector<std::vector<double>>;
Moments moments(const ChannelInputs& in, size_t powers, ThreadTeam& team) {
  Moments m(powers, std::vector<double>(in.channels(), 0.0));
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.channels(), kHistogramBlock);
    for (size_t t = 0; t < in.tokens; ++t)
      for (size_t copy = 0; copy < in.repeat; ++copy)
        for (size_t c = begin; c < end; ++c) {
          double v = double{in.x[t * in.columns + in.column(c, copy)]};
          for (auto& of_power : m) {
            v *= v;
            of_power[c] += double{in.token_weight[t]} * v;
          }
        }
  });
  for (auto& of_power : m)
    for (double& v : of_power) v /= static_cast<double>(in.tokens);
  return m;
}

// values [n, tokens, repeat] of n neighbouring channels, whose columns lie far apart in memory.
void gather_values(const ChannelInputs& in, size_t first, size_t n, std::vector<float>& values) {
  for (size_t t = 0; t < in.tokens; ++t)
    for (size_t copy = 0; copy < in.repeat; ++copy)
      for (size_t i = 0; i < n; ++i)
        values[(i * in.tokens + t) * in.repeat + copy] =
            in.x[t * in.columns + in.column(first + i, copy)];
}

using Folds = std::array<ChannelHistogram, kFolds>;

struct ChannelValues {
  const ChannelInputs& in;
  size_t channel;
  std::span<const float> x;  // [tokens, repeat]

  // Of every fold, and of all, weighted by tokens and by `norm`, the square of the column.
  Folds histograms(const std::vector<double>& norm, float center, ChannelHistogram& all) const {
    float top = 0;
    for (float v : x) top = std::max(top, std::fabs(v - center));
    Folds folds;
    folds.fill(ChannelHistogram(top));
    for (size_t copy = 0; copy < in.repeat; ++copy) {
      const float of_column = static_cast<float>(norm[in.column(channel, copy)]);
      for (size_t t = 0; t < in.tokens; ++t)
        folds[in.fold[t]].add(x[t * in.repeat + copy] - center, in.token_weight[t] * of_column);
    }
    all = ChannelHistogram(top);
    for (ChannelHistogram& fold : folds) {
      fold.accumulate();
      all.add(fold);
    }
    return folds;
  }
};

struct Statistics {
  std::vector<ChannelHistogram> channels;  // weighted by tokens and by |W_c|^2
  std::vector<float> center;               // [channels]
  // Error that steps chosen on the other folds make on each fold, by the tail they allow for.
  std::array<double, kTails.size()> validation{};
};

Statistics gather(const ChannelInputs& in, const std::vector<double>& norm, bool center,
                  ThreadTeam& team, Communicator& ranks) {
  Statistics s;
  s.channels.resize(in.channels());
  s.center.assign(in.channels(), 0.0f);
  // By block, and added up in their order: the same bits for any number of threads.
  std::vector<std::array<double, kTails.size()>> validation((in.channels() + kHistogramBlock - 1) /
                                                            kHistogramBlock);
  const auto [own_begin, own_end] = ranks.share(in.channels(), kHistogramBlock);
  team.run([&](Worker& w) {
    auto [begin, end] = w.share(own_end - own_begin, kHistogramBlock);
    begin += own_begin;
    end += own_begin;
    const size_t count = in.tokens * in.repeat;
    const size_t at_once = std::clamp(kGathered / count, size_t{1}, kHistogramBlock);
    std::vector<float> values(begin < end ? at_once * count : 0);
    for (size_t first = begin; first < end; first += kHistogramBlock) {
      const size_t n = std::min(kHistogramBlock, end - first);
      auto& sums = validation[first / kHistogramBlock];
      sums.fill(0);
      for (size_t i = 0; i < n; ++i) {
        const size_t c = first + i;
        if (i % at_once == 0) gather_values(in, c, std::min(at_once, n - i), values);
        const ChannelValues channel{in, c, {values.data() + i % at_once * count, count}};
        Folds folds = channel.histograms(norm, 0, s.channels[c]);
        if (center) {
          s.center[c] = static_cast<float>(s.channels[c].center(kOutside));
          folds = channel.histograms(norm, s.center[c], s.channels[c]);
        }
        for (const ChannelHistogram& fold : folds) {
          const ChannelHistogram others = fold.missing_from(s.channels[c]);
          for (size_t k = 0; k < kTails.size(); ++k)
            sums[k] += fold.error(rough_step(others, kTails[k]), {127, 127}, 1, 1);
        }
      }
    }
  });
  ranks.collect(s.channels.data(), s.channels.size(), 1, kHistogramBlock);
  ranks.collect(s.center.data(), s.center.size(), 1, kHistogramBlock);
  ranks.collect(validation.data(), validation.size(), 1);
  for (const auto& sums : validation)
    for (size_t k = 0; k < kTails.size(); ++k) s.validation[k] += sums[k];
  return s;
}

// Every channel's steps become `unit`; each of its copies has the whole channel's step, and a share
// of its values.
void fill(const ChannelInputs& in, const std::vector<double>& step,
          const std::vector<size_t>& copies, double unit, double spread, ChannelPlan& plan) {
  for (size_t i = 0; i < in.columns; ++i) {
    const size_t c = in.channel(i);
    plan.scale.push_back(static_cast<float>(step[c] / unit / static_cast<double>(copies[c])));
  }
  if (in.repeat > 1) return;
  for (size_t c = 0; c < step.size(); ++c) {
    const double m = static_cast<double>(copies[c]);
    for (size_t i = 0; i < copies[c]; ++i) {
      const double at = copies[c] > 1 ? 2 * static_cast<double>(i) / (m - 1) - 1 : 0;
      plan.split.source.push_back(c);
      plan.split.share.push_back(static_cast<float>((1 + spread * at) / m));
    }
  }
}

double geometric_mean(const std::vector<double>& v) {
  double logs = 0;
  for (double x : v) logs += std::log(x);
  return std::exp(logs / static_cast<double>(v.size()));
}

// Channels that hardly move get a step that keeps their weights in bounds.
void raise_small(std::vector<double>& step) {
  std::vector<double> sorted = step;
  const auto middle = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double floor = std::max(*middle * 1e-3, 1e-12);
  for (double& v : step) v = std::max(v, floor);
}

// The split of the levels between the signs that costs least without copies.
Levels choose_levels(const std::vector<ChannelHistogram>& channels, double tail, ThreadTeam& team) {
  const auto levels_of = [](double share) {
    const double positive = std::round(255 * share);
    return Levels{positive, 255 - positive};
  };
  std::vector<std::array<double, kPositiveShares.size()>> parts(channels.size());
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(channels.size());
    for (size_t c = begin; c < end; ++c)
      for (size_t k = 0; k < kPositiveShares.size(); ++k)
        parts[c][k] = best_step(channels[c], levels_of(kPositiveShares[k]), 1, tail).error;
  });
  std::array<double, kPositiveShares.size()> errors{};
  for (const auto& part : parts)
    for (size_t k = 0; k < errors.size(); ++k) errors[k] += part[k];
  const size_t best =
      static_cast<size_t>(std::min_element(errors.begin(), errors.end()) - errors.begin());
  return levels_of(kPositiveShares[best]);
}

// sum_i norm_i (x_i - rounded x_i)^2 of one token under a plan with a scale per token.
double token_error(const ChannelInputs& in, const float* x, const ChannelPlan& plan,
                   const std::vector<double>& norm) {
  const size_t entries = std::max(in.columns, plan.split.source.size());
  const auto column = [&](size_t i) { return in.repeat > 1 ? i : plan.split.source[i]; };
  std::vector<float> scaled(entries), rounded(entries);
  for (size_t i = 0; i < entries; ++i)
    scaled[i] = x[column(i)] / plan.scale[column(i)] * (in.repeat > 1 ? 1 : plan.split.share[i]);
  InputGrid{true, 1, 0}.round(scaled.data(), entries, rounded.data());
  double sum = 0;
  for (size_t i = 0; i < entries;) {
    const size_t c = column(i);  // its copies are neighbours
    double error = 0;
    for (; i < entries && column(i) == c; ++i) error += double{rounded[i] - scaled[i]};
    error *= double{plan.scale[c]};
    sum += norm[c] * error * error;
  }
  return sum;
}

// The same over all tokens, measured on some of them.
double dynamic_error(const ChannelInputs& in, const ChannelPlan& plan,
                     const std::vector<double>& norm, ThreadTeam& team) {
  const size_t stride = std::max<size_t>(1, in.tokens / kErrorTokens);
  std::vector<double> parts(in.tokens / stride);
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(parts.size());
    for (size_t i = begin; i < end; ++i) {
      const size_t t = i * stride;
      parts[i] = double{in.token_weight[t]} * token_error(in, in.x + t * in.columns, plan, norm);
    }
  });
  return std::accumulate(parts.begin(), parts.end(), 0.0) * static_cast<double>(stride);
}

void check_inputs(const ChannelInputs& in, const ChannelOptions& options) {
  OCTET_CHECK(in.linear->shape.k == in.columns && in.fold.size() == in.tokens);
  OCTET_CHECK(in.columns % (in.repeat * in.width) == 0);
  OCTET_CHECK(in.repeat == 1 || options.copies == 0);
}

}  // namespace

ChannelPlan plan_static(const ChannelInputs& in, const ChannelOptions& options, DType stored,
                        ThreadTeam& team, Communicator& ranks) {
  check_inputs(in, options);
  const Statistics s = gather(in, column_squares({in.linear}, team), options.center, team, ranks);
  const size_t best = static_cast<size_t>(
      std::min_element(s.validation.begin(), s.validation.end()) - s.validation.begin());
  const double tail = kTails[best] * options.margin;
  const Levels levels = choose_levels(s.channels, tail, team);
  const auto choose = [&](size_t c, double copies) {
    // The largest of several copies reaches the levels' end first.
    return best_step(s.channels[c], levels, copies,
                     copies > 1 ? tail * (1 + options.spread) : tail);
  };
  const auto cost = [&](size_t c, double copies) {
    const StepChoice choice = choose(c, copies);
    return ChannelCost{choice.step, choice.error};
  };
  const ChannelCopies given = give_copies(*in.linear, {moments(in, 1, team)[0], in.tokens}, cost,
                                          options.copies, options.weight_noise, team);
  ChannelPlan plan;
  std::vector<double> step = given.step;
  // Few tokens hardly move from a channel's middle; others will.
  for (size_t c = 0; c < step.size(); ++c)
    step[c] = std::max(step[c], double{std::fabs(s.center[c])} * 1e-4);
  raise_small(step);
  const double unit =
      double{round_to(std::max(static_cast<float>(geometric_mean(step)), kMinQuantScale), stored)};
  for (size_t c = 0; c < step.size(); ++c)
    if (choose(c, static_cast<double>(given.copies[c])).flipped) step[c] = -step[c];
  plan.params = QuantParams{static_cast<float>(unit), static_cast<float>(127 - levels.positive)};
  plan.error = given.error;
  if (options.center) plan.center = s.center;
  fill(in, step, given.copies, unit, options.spread, plan);
  return plan;
}

ChannelPlan plan_dynamic(const ChannelInputs& in, const ChannelOptions& options, ThreadTeam& team) {
  check_inputs(in, options);
  const std::vector<double> norm = column_squares({in.linear}, team);
  std::vector<double> squares(in.channels(), 0.0);  // of a channel's columns
  for (size_t i = 0; i < in.columns; ++i) squares[in.channel(i)] += norm[i];
  const Moments m = moments(in, kPowers.size(), team);
  Moments amplitude = m;
  for (size_t k = 0; k < kPowers.size(); ++k) {
    for (size_t c = 0; c < squares.size(); ++c)
      amplitude[k][c] = std::pow(m[k][c] / std::max(squares[c], 1e-30), 1 / (kPowers[k] + 2));
    raise_small(amplitude[k]);
  }
  // Of several plans the one that errs least.
  ChannelPlan best;
  best.error = INFINITY;
  const auto offer = [&](const std::vector<double>& a, const std::vector<size_t>& copies,
                         double spread) {
    ChannelPlan plan;
    fill(in, a, copies, geometric_mean(a), spread, plan);
    plan.error = dynamic_error(in, plan, norm, team);
    if (plan.error >= best.error) return false;
    best = std::move(plan);
    return true;
  };
  const std::vector<double>* a = nullptr;
  for (const std::vector<double>& candidate : amplitude)
    if (offer(candidate, std::vector<size_t>(squares.size(), 1), 0)) a = &candidate;
  OCTET_CHECK(a != nullptr);
  if (options.copies == 0) return best;
  double weights = 0;
  for (size_t c = 0; c < squares.size(); ++c) weights += squares[c] * (*a)[c] * (*a)[c];
  const double unit = best.error / weights;
  const auto cost = [&](size_t c, double copies) {
    return ChannelCost{(*a)[c], unit * squares[c] * (*a)[c] * (*a)[c] / copies};
  };
  const ChannelCopies given =
      give_copies(*in.linear, {m[0], in.tokens}, cost, options.copies, options.weight_noise, team);
  best.error = INFINITY;  // every layer has the copies
  // Unequal copies err independently, but the largest raises the scale.
  for (double share : {1.0, 0.3, 0.1, 0.0}) offer(*a, given.copies, share * options.spread);
  return best;
}

}  // namespace octet
