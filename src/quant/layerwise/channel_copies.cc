#include "src/quant/layerwise/channel_copies.h"

#include <algorithm>
#include <cmath>

#include "src/base/error.h"

namespace octet {
namespace {

// The two largest |w| u of a row.
struct TopTwo {
  size_t channel = 0, second_channel = 0;
  double first = 0, second = 0;
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

}  // namespace

ChannelCopies give_copies(const FloatWeight& linear, const InputPower& power,
                          const std::function<ChannelCost(size_t channel, double copies)>& cost,
                          size_t added, double weight_noise, ThreadTeam& team) {
  const size_t n = linear.shape.n, k = power.mean_square.size();
  ChannelCopies given{std::vector<size_t>(k, 1), std::vector<double>(k), 0};
  std::vector<ChannelCost> now(k), next(k);
  const auto refresh_cost = [&](size_t c) {
    const double m = static_cast<double>(given.copies[c]);
    now[c] = cost(c, m);
    next[c] = cost(c, m + 1);
  };
  team.run([&](Worker& w) {
    const auto [begin, end] = w.share(k);
    for (size_t c = begin; c < end; ++c) refresh_cost(c);
  });
  const auto finish = [&] {
    for (size_t c = 0; c < k; ++c) {
      given.step[c] = now[c].step;
      given.error += now[c].error;
    }
    return std::move(given);
  };
  if (added == 0) return finish();
  OCTET_CHECK(linear.shape.k == k);
  // Step of a copy, the weights' factor.
  std::vector<double> u(k);
  const auto integers = [&](size_t c) {  // sum over copies of their mean squared integer
    return static_cast<double>(given.copies[c]) * power.mean_square[c] /
           (now[c].step * now[c].step);
  };
  double crest = 0;
  for (size_t c = 0; c < k; ++c) {
    u[c] = now[c].step;
    crest += integers(c);
  }
  std::vector<TopTwo> top(n);
  const auto refresh_rows = [&](size_t changed, bool all) {
    team.run([&](Worker& w) {
      const auto [begin, end] = w.share(n);
      for (size_t j = begin; j < end; ++j)
        if (all || top[j].channel == changed || top[j].second_channel == changed)
          top[j] = top_two(linear.w.data() + j * k, u);
    });
  };
  refresh_rows(0, true);
  std::vector<double> gain(k);
  for (size_t i = 0; i < added; ++i) {
    std::fill(gain.begin(), gain.end(), 0.0);
    // A row's weights are rounded to largest / 127, with an error of a twelfth of its square.
    const double noise =
        weight_noise * crest * static_cast<double>(power.tokens) / (12 * 127 * 127);
    for (const TopTwo& t : top) {
      const double m = static_cast<double>(given.copies[t.channel]);
      const double then = std::max(t.second, t.first * m / (m + 1));
      gain[t.channel] += noise * (t.first * t.first - then * then);
    }
    size_t best = 0;
    for (size_t c = 0; c < k; ++c) {
      gain[c] += now[c].error - next[c].error;
      if (gain[c] > gain[best]) best = c;
    }
    crest -= integers(best);
    ++given.copies[best];
    refresh_cost(best);
    crest += integers(best);
    u[best] = now[best].step / static_cast<double>(given.copies[best]);
    refresh_rows(best, false);
  }
  return finish();
}

}  // namespace octet
