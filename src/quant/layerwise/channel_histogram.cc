#include "src/quant/layerwise/channel_histogram.h"

#include <algorithm>
#include <cmath>

namespace octet {
float ChannelHistogram::edge(size_t bin) {
  return bin + 1 == kBins ? 0 : std::bit_cast<float>(static_cast<uint32_t>(kOne - bin) << kShift);
}

void ChannelHistogram::add(const ChannelHistogram& other) {
  for (size_t sign = 0; sign < 2; ++sign)
    for (size_t i = 0; i < kBins; ++i) {
      sums_[sign][i].weight += other.sums_[sign][i].weight;
      sums_[sign][i].first += other.sums_[sign][i].first;
      sums_[sign][i].second += other.sums_[sign][i].second;
    }
}

void ChannelHistogram::accumulate() {
  for (auto& sums : sums_)
    for (size_t i = 1; i < kBins; ++i) {
      sums[i].weight += sums[i - 1].weight;
      sums[i].first += sums[i - 1].first;
      sums[i].second += sums[i - 1].second;
    }
}

ChannelHistogram ChannelHistogram::missing_from(const ChannelHistogram& all) const {
  ChannelHistogram rest = all;
  for (size_t sign = 0; sign < 2; ++sign)
    for (size_t i = 0; i < kBins; ++i) {
      rest.sums_[sign][i].weight -= sums_[sign][i].weight;
      rest.sums_[sign][i].first -= sums_[sign][i].first;
      rest.sums_[sign][i].second -= sums_[sign][i].second;
    }
  return rest;
}

// Within a bin the sums are taken to grow evenly.
ChannelHistogram::Sums ChannelHistogram::above(size_t sign, double x) const {
  const double share = x / double{top_};
  if (share >= 1) return share > 1 ? Sums{} : sums_[sign][0];
  const size_t bin = bin_of(static_cast<float>(share));
  if (bin == 0) return sums_[sign][0];
  const Sums &upper = sums_[sign][bin - 1], &lower = sums_[sign][bin];
  const double high = double{edge(bin - 1)}, low = double{edge(bin)};
  const double f = std::clamp((high - share) / (high - low), 0.0, 1.0);
  return {std::lerp(upper.weight, lower.weight, f), std::lerp(upper.first, lower.first, f),
          std::lerp(upper.second, lower.second, f)};
}

// The value, in the direction of `sign`, beyond which `share` of the weight lies.
double ChannelHistogram::quantile(size_t sign, double share) const {
  const double all = sums_[0].back().weight + sums_[1].back().weight;
  const bool ahead = sums_[sign].back().weight >= share * all;
  const auto& sums = sums_[ahead ? sign : 1 - sign];
  const double weight = (ahead ? share : 1 - share) * all;
  size_t bin = 0;
  while (bin + 1 < kBins && sums[bin].weight < weight) ++bin;
  return double{top_} * double{edge(bin)} * (ahead ? 1 : -1);
}

double ChannelHistogram::center(double share) const {
  return (quantile(0, share) - quantile(1, share)) / 2;
}

double ChannelHistogram::error(double step, Levels levels, double copies, double tail) const {
  if (top_ == 0) return 0;
  double sum = 0;
  for (size_t sign = 0; sign < 2; ++sign) {
    const double limit = step * (sign == 0 ? levels.positive : levels.negative) / tail;
    const Sums alive = above(sign, step / 2), beyond = above(sign, limit);
    const double clipped = beyond.second - 2 * limit * beyond.first + limit * limit * beyond.weight;
    sum += sums_[sign].back().second - alive.second;
    sum += alive.weight * step * step / 12 / copies;
    sum += std::max(clipped, 0.0) * tail * tail;
  }
  return sum;
}

namespace {

double step_of(const ChannelHistogram& h, int eighths) {
  return double{h.top()} / 127 * std::exp2(-eighths / 8.0);
}

}  // namespace

StepChoice best_step(const ChannelHistogram& h, Levels levels, double copies, double tail) {
  StepChoice best;
  best.error = INFINITY;
  const Levels mirrored{levels.negative, levels.positive};
  for (int i = -16; i <= 40; ++i) {  // eighths of an octave
    const double step = step_of(h, i);
    for (const bool flip : {false, true}) {
      const double error = h.error(step, flip ? mirrored : levels, copies, tail);
      if (error < best.error) best = {step, error, flip};
    }
  }
  return best;
}

double rough_step(const ChannelHistogram& h, double tail) {
  double best = 0, least = INFINITY;
  for (int i = -10; i <= 20; i += 2) {
    const double step = step_of(h, i), error = h.error(step, {127, 127}, 1, tail);
    if (error < least) {
      least = error;
      best = step;
    }
  }
  return best;
}

}  // namespace octet
