#include "src/quant/mlp_channels.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "src/base/error.h"

namespace octet {
namespace {

struct Moments {
  std::array<std::vector<double>, kFolds> amplitude;  // largest |x| of a channel in a fold
  std::vector<double> mean_square;                    // weighted
};

Moments moments_of(const MlpInputs& in, ThreadTeam& team) {
  Moments m;
  for (auto& a : m.amplitude) a.assign(in.channels, 0.0);
  m.mean_square.assign(in.channels, 0.0);
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(in.channels, 16);
    for (size_t t = 0; t < in.tokens; ++t) {
      std::vector<double>& a = m.amplitude[in.fold[t]];
      const double weight = in.token_weight[t];
      for (size_t c = begin; c < end; ++c) {
        const double v = std::fabs(double{in.x[t * in.channels + c]});
        a[c] = std::max(a[c], v);
        m.mean_square[c] += weight * v * v;
      }
    }
  });
  for (double& v : m.mean_square) v /= static_cast<double>(in.tokens);
  return m;
}

// Channels that hardly move get an amplitude that keeps their weights in bounds.
void raise_small(std::vector<double>& amplitude) {
  std::vector<double> sorted = amplitude;
  const auto middle = sorted.begin() + static_cast<ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double floor = std::max(*middle * 1e-3, 1e-12);
  for (double& a : amplitude) a = std::max(a, floor);
}

// The two largest |w| u of a row of down.
struct TopTwo {
  size_t channel = 0;
  double first = 0, second = 0;
  size_t second_channel = 0;
};
TopTwo top_two(const float* row, const std::vector<double>& u) {
  TopTwo t;
  for (size_t c = 0; c < u.size(); ++c) {
    const double v = std::fabs(double{row[c]}) * u[c];
    if (v > t.first) {
      t.second = t.first;
      t.second_channel = t.channel;
      t.first = v;
      t.channel = c;
    } else if (v > t.second) {
      t.second = v;
      t.second_channel = c;
    }
  }
  return t;
}

// Copies of every channel, given one by one to where the expected error falls most. `u`: amplitude
// of one copy, updated.
std::vector<size_t> give_copies(const MlpInputs& in, const MlpChannelOptions& options,
                                const Moments& moments, const std::vector<double>& norm,
                                std::vector<double>& u, ThreadTeam& team) {
  const size_t n = in.down->shape.n;
  std::vector<size_t> copies(in.channels, 1);
  double crest = 0;  // sum over channels of their mean square at amplitude one
  for (size_t c = 0; c < in.channels; ++c) crest += moments.mean_square[c] / (u[c] * u[c]);
  std::vector<TopTwo> top(n);
  const auto refresh = [&](size_t changed, bool all) {
    team.run([&](Worker& w) {
      const auto [begin, end] = w.share(n);
      for (size_t j = begin; j < end; ++j)
        if (all || top[j].channel == changed || top[j].second_channel == changed)
          top[j] = top_two(in.down->w.data() + j * in.channels, u);
    });
  };
  refresh(0, true);
  std::vector<double> gain(in.channels);
  for (size_t given = 0; given < options.copies; ++given) {
    std::fill(gain.begin(), gain.end(), 0.0);
    for (const TopTwo& t : top) {
      const double m = static_cast<double>(copies[t.channel]);
      const double then = std::max(t.second, t.first * m / (m + 1));
      gain[t.channel] += options.weight_noise * crest * (t.first * t.first - then * then);
    }
    size_t best = 0;
    for (size_t c = 0; c < in.channels; ++c) {
      const double m = static_cast<double>(copies[c]), whole = u[c] * m;
      gain[c] += norm[c] * whole * whole * (1 / m - 1 / (m + 1));
      if (gain[c] > gain[best]) best = c;
    }
    const double m = static_cast<double>(copies[best]);
    crest += moments.mean_square[best] / (u[best] * u[best] * m * m);
    u[best] *= m / (m + 1);
    ++copies[best];
    refresh(best, false);
  }
  return copies;
}

// Expected squared error of down's output from the rounding and the clipping of its input, on the
// tokens of one fold, when channel c holds up to limit[c].
double input_error(const MlpInputs& in, size_t fold, const std::vector<double>& limit,
                   const std::vector<double>& norm, const std::vector<size_t>& copies,
                   ThreadTeam& team) {
  std::vector<double> parts(team.size());
  team.run([&](Worker& w) {
    double sum = 0;
    const auto [begin, end] = w.share(in.tokens);
    for (size_t t = begin; t < end; ++t) {
      if (in.fold[t] != fold) continue;
      double row = 0;
      for (size_t c = 0; c < in.channels; ++c) {
        const double over = std::fabs(double{in.x[t * in.channels + c]}) - limit[c];
        if (over > 0) row += norm[c] * over * over;
      }
      sum += double{in.token_weight[t]} * row;
    }
    parts[w.id()] = sum;
  });
  double clipped = 0, weight = 0, rounding = 0;
  for (double v : parts) clipped += v;
  for (size_t t = 0; t < in.tokens; ++t)
    if (in.fold[t] == fold) weight += double{in.token_weight[t]};
  for (size_t c = 0; c < in.channels; ++c)
    rounding += norm[c] * limit[c] * limit[c] / static_cast<double>(copies[c]);
  return clipped + weight * rounding / (12.0 * 127 * 127);
}

double best_margin(const MlpInputs& in, const Moments& moments, const std::vector<double>& norm,
                   const std::vector<size_t>& copies, ThreadTeam& team) {
  double best = 1, least = INFINITY;
  for (double margin = 0.7; margin < 4; margin *= 1.1) {
    double error = 0;
    for (size_t fold = 0; fold < kFolds; ++fold) {
      std::vector<double> limit(in.channels, 0.0);
      for (size_t other = 0; other < kFolds; ++other)
        for (size_t c = 0; other != fold && c < in.channels; ++c)
          limit[c] = std::max(limit[c], moments.amplitude[other][c]);
      raise_small(limit);
      for (double& v : limit) v *= margin;
      error += input_error(in, fold, limit, norm, copies, team);
    }
    if (error < least) {
      least = error;
      best = margin;
    }
  }
  return best;
}

}  // namespace

MlpPlan plan_mlp_channels(const MlpInputs& in, const MlpChannelOptions& options, ThreadTeam& team) {
  OCTET_CHECK(in.down->shape.k == in.channels && in.fold.size() == in.tokens);
  const Moments moments = moments_of(in, team);
  std::vector<double> norm(in.channels, 0.0), u(in.channels, 0.0);
  for (size_t i = 0; i < in.down->w.size(); ++i)
    norm[i % in.channels] += double{in.down->w[i]} * in.down->w[i];
  for (size_t c = 0; c < in.channels; ++c)
    for (const auto& a : moments.amplitude) u[c] = std::max(u[c], a[c]);
  raise_small(u);
  const std::vector<size_t> copies = give_copies(in, options, moments, norm, u, team);

  MlpPlan plan;
  plan.margin = best_margin(in, moments, norm, copies, team);
  double logs = 0;
  for (double v : u) logs += std::log(v);
  const double middle = std::exp(logs / static_cast<double>(in.channels));
  plan.range = static_cast<float>(middle * plan.margin);
  for (size_t c = 0; c < in.channels; ++c) {
    plan.scale.push_back(static_cast<float>(u[c] / middle));
    const double m = static_cast<double>(copies[c]);
    for (size_t i = 0; i < copies[c]; ++i) {
      const double at = copies[c] > 1 ? 2 * static_cast<double>(i) / (m - 1) - 1 : 0;
      plan.split.source.push_back(c);
      plan.split.share.push_back(static_cast<float>((1 + options.spread * at) / m));
    }
  }
  return plan;
}

}  // namespace octet
