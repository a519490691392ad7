#include "src/quant/mlp_channels.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "src/base/error.h"
#include "src/model/input_grid.h"
#include "src/quant/channel_copies.h"
#include "src/quant/channel_histogram.h"
#include "src/quant/encode.h"

namespace octet {
namespace {

constexpr std::array kTails = {1.0, 1.15, 1.3, 1.5, 1.75, 2.1, 2.6};
constexpr std::array kPositiveShares = {0.5, 0.57, 0.64, 0.71};
constexpr std::array kPowers = {2.0, 4.0, 8.0, 16.0};
constexpr size_t kErrorTokens = 4096;  // a per-token error is measured on about so many
constexpr size_t kBlock = 16;          // channels whose histograms are made together

std::vector<double> mean_squares(const MlpInputs& in, ThreadTeam& team) {
  std::vector<double> m(in.channels, 0.0);
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.channels, kBlock);
    for (size_t t = 0; t < in.tokens; ++t)
      for (size_t c = begin; c < end; ++c) {
        const double v = double{in.x[t * in.channels + c]};
        m[c] += double{in.token_weight[t]} * v * v;
      }
  });
  for (double& v : m) v /= static_cast<double>(in.tokens);
  return m;
}

struct Statistics {
  std::vector<ChannelHistogram> channels;
  // Error that steps chosen on the other folds make on each fold, by the tail they allow for.
  std::array<double, kTails.size()> validation{};
};

Statistics gather(const MlpInputs& in, const std::vector<double>& norm, ThreadTeam& team) {
  Statistics s;
  s.channels.resize(in.channels);
  std::vector<std::array<double, kTails.size()>> validation(team.size());
  team.run([&](Worker& w) {
    auto& sums = validation[w.id()];
    sums.fill(0);
    const auto [begin, end] = w.share(in.channels, kBlock);
    for (size_t first = begin; first < end; first += kBlock) {
      const size_t n = std::min(kBlock, end - first);
      std::vector<float> top(n, 0.0f);
      for (size_t t = 0; t < in.tokens; ++t)
        for (size_t i = 0; i < n; ++i)
          top[i] = std::max(top[i], std::fabs(in.x[t * in.channels + first + i]));
      std::vector<ChannelHistogram> folds;
      for (size_t i = 0; i < n; ++i) {
        folds.insert(folds.end(), kFolds, ChannelHistogram(top[i]));
        s.channels[first + i] = ChannelHistogram(top[i]);
      }
      for (size_t t = 0; t < in.tokens; ++t)
        for (size_t i = 0; i < n; ++i) {
          const float x = in.x[t * in.channels + first + i];
          folds[i * kFolds + in.fold[t]].add(x, in.token_weight[t]);
          s.channels[first + i].add(x, in.token_weight[t]);
        }
      for (ChannelHistogram& h : folds) h.accumulate();
      for (size_t i = 0; i < n; ++i) {
        ChannelHistogram& all = s.channels[first + i];
        all.accumulate();
        for (size_t f = 0; f < kFolds; ++f) {
          const ChannelHistogram& fold = folds[i * kFolds + f];
          const ChannelHistogram others = fold.missing_from(all);
          for (size_t k = 0; k < kTails.size(); ++k) {
            const double step = rough_step(others, kTails[k]);
            sums[k] += norm[first + i] * fold.error(step, {127, 127}, 1, 1);
          }
        }
      }
    }
  });
  for (const auto& sums : validation)
    for (size_t k = 0; k < kTails.size(); ++k) s.validation[k] += sums[k];
  return s;
}

// Every channel's steps become `unit`; each of its copies has the whole channel's step, and a share
// of its values.
void fill(const std::vector<double>& step, const std::vector<size_t>& copies, double unit,
          double spread, MlpPlan& plan) {
  for (size_t c = 0; c < step.size(); ++c) {
    const double m = static_cast<double>(copies[c]);
    plan.scale.push_back(static_cast<float>(step[c] / unit / m));
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
Levels choose_levels(const std::vector<ChannelHistogram>& channels, const std::vector<double>& norm,
                     double tail, ThreadTeam& team) {
  const auto levels_of = [](double share) {
    const double positive = std::round(255 * share);
    return Levels{positive, 255 - positive};
  };
  std::vector<std::array<double, kPositiveShares.size()>> parts(team.size());
  team.run([&](Worker& w) {
    parts[w.id()].fill(0);
    const auto [begin, end] = w.share(channels.size());
    for (size_t c = begin; c < end; ++c)
      for (size_t k = 0; k < kPositiveShares.size(); ++k)
        parts[w.id()][k] +=
            norm[c] * best_step(channels[c], levels_of(kPositiveShares[k]), 1, tail).error;
  });
  std::array<double, kPositiveShares.size()> errors{};
  for (const auto& part : parts)
    for (size_t k = 0; k < errors.size(); ++k) errors[k] += part[k];
  const size_t best =
      static_cast<size_t>(std::min_element(errors.begin(), errors.end()) - errors.begin());
  return levels_of(kPositiveShares[best]);
}

// sum_c norm (x - rounded x)^2 of one token under a plan with a scale per token.
double token_error(const float* x, const MlpPlan& plan, const std::vector<double>& norm) {
  const std::vector<size_t>& source = plan.split.source;
  std::vector<float> scaled(source.size()), rounded(source.size());
  for (size_t i = 0; i < source.size(); ++i)
    scaled[i] = x[source[i]] / plan.scale[source[i]] * plan.split.share[i];
  InputGrid{true, 1, 0}.round(scaled.data(), scaled.size(), rounded.data());
  double sum = 0;
  for (size_t i = 0; i < source.size();) {
    const size_t c = source[i];  // its copies are neighbours
    double error = 0;
    for (; i < source.size() && source[i] == c; ++i) error += double{rounded[i] - scaled[i]};
    error *= double{plan.scale[c]};
    sum += norm[c] * error * error;
  }
  return sum;
}

// The same over all tokens, measured on some of them.
double dynamic_error(const MlpInputs& in, const MlpPlan& plan, const std::vector<double>& norm,
                     ThreadTeam& team) {
  const size_t stride = std::max<size_t>(1, in.tokens / kErrorTokens);
  std::vector<double> parts(team.size(), 0.0);
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.tokens / stride);
    for (size_t t = begin * stride; t < end * stride; t += stride)
      parts[w.id()] += double{in.token_weight[t]} * token_error(in.x + t * in.channels, plan, norm);
  });
  return std::accumulate(parts.begin(), parts.end(), 0.0) * static_cast<double>(stride);
}

}  // namespace

MlpPlan plan_static_mlp(const MlpInputs& in, const MlpChannelOptions& options, DType stored,
                        ThreadTeam& team) {
  OCTET_CHECK(in.down->shape.k == in.channels && in.fold.size() == in.tokens);
  const std::vector<double> norm = column_squares({in.down}, team);
  const Statistics s = gather(in, norm, team);
  const size_t best = static_cast<size_t>(
      std::min_element(s.validation.begin(), s.validation.end()) - s.validation.begin());
  const double tail = kTails[best] * options.margin;

  const Levels levels = choose_levels(s.channels, norm, tail, team);
  // The largest of several copies reaches the levels' end first.
  const auto tail_of = [&](double copies) {
    return copies > 1 ? tail * (1 + options.spread) : tail;
  };
  const auto cost = [&](size_t c, double copies) {
    const StepChoice choice = best_step(s.channels[c], levels, copies, tail_of(copies));
    return ChannelCost{choice.step, norm[c] * choice.error};
  };
  const ChannelCopies given = give_copies(*in.down, mean_squares(in, team), in.tokens, cost,
                                          options.copies, options.weight_noise, team);
  MlpPlan plan;
  std::vector<double> step = given.step;
  raise_small(step);
  const double unit = double{round_to(static_cast<float>(geometric_mean(step)), stored)};
  for (size_t c = 0; c < in.channels; ++c) {
    const double m = static_cast<double>(given.copies[c]);
    if (best_step(s.channels[c], levels, m, tail_of(m)).flipped) step[c] = -step[c];
  }
  plan.params = QuantParams{static_cast<float>(unit), static_cast<float>(127 - levels.positive)};
  plan.error = given.error;
  fill(step, given.copies, unit, options.spread, plan);
  return plan;
}

MlpPlan plan_dynamic_mlp(const MlpInputs& in, const MlpChannelOptions& options, ThreadTeam& team) {
  OCTET_CHECK(in.down->shape.k == in.channels);
  const std::vector<double> norm = column_squares({in.down}, team);
  // Moments of the powers.
  std::array<std::vector<double>, kPowers.size()> amplitude;
  for (auto& a : amplitude) a.assign(in.channels, 0.0);
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.channels, kBlock);
    for (size_t t = 0; t < in.tokens; ++t)
      for (size_t c = begin; c < end; ++c) {
        double v = double{in.x[t * in.channels + c]};
        for (auto& a : amplitude) {
          v *= v;
          a[c] += double{in.token_weight[t]} * v;
        }
      }
  });
  for (size_t k = 0; k < kPowers.size(); ++k) {
    for (size_t c = 0; c < in.channels; ++c)
      amplitude[k][c] =
          std::pow(amplitude[k][c] / static_cast<double>(in.tokens) / std::max(norm[c], 1e-30),
                   1 / (kPowers[k] + 2));
    raise_small(amplitude[k]);
  }
  // Of several plans the one that errs least.
  MlpPlan best;
  best.error = INFINITY;
  const auto offer = [&](const std::vector<double>& a, const std::vector<size_t>& copies,
                         double spread) {
    MlpPlan plan;
    fill(a, copies, geometric_mean(a), spread, plan);
    plan.error = dynamic_error(in, plan, norm, team);
    if (plan.error >= best.error) return false;
    best = std::move(plan);
    return true;
  };
  const std::vector<double>* a = nullptr;
  for (const std::vector<double>& candidate : amplitude)
    if (offer(candidate, std::vector<size_t>(in.channels, 1), 0)) a = &candidate;
  OCTET_CHECK(a != nullptr);
  if (options.copies == 0) return best;
  double weights = 0;
  for (size_t c = 0; c < in.channels; ++c) weights += norm[c] * (*a)[c] * (*a)[c];
  const double unit = best.error / weights;
  const auto cost = [&](size_t c, double copies) {
    return ChannelCost{(*a)[c], unit * norm[c] * (*a)[c] * (*a)[c] / copies};
  };
  const ChannelCopies given = give_copies(*in.down, mean_squares(in, team), in.tokens, cost,
                                          options.copies, options.weight_noise, team);
  best.error = INFINITY;  // every layer has the copies
  // Unequal copies err independently, but the largest raises the scale.
  for (double share : {1.0, 0.3, 0.1, 0.0}) offer(*a, given.copies, share * options.spread);
  return best;
}

}  // namespace octet
