#include "src/quant/layerwise/channel_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace octet {
namespace {

struct Value {
  float x, weight;
};

std::vector<Value> laplace(size_t n, unsigned seed) {
  std::mt19937 engine(seed);
  std::exponential_distribution<float> size(0.5f);
  std::uniform_real_distribution<float> uniform(-1, 1);
  std::vector<Value> values(n);
  for (Value& v : values)
    v = {std::copysign(size(engine), uniform(engine)), 1.5f + uniform(engine)};
  return values;
}

ChannelHistogram histogram_of(const std::vector<Value>& values) {
  float top = 0;
  for (const Value& v : values) top = std::max(top, std::fabs(v.x));
  ChannelHistogram h(top);
  for (const Value& v : values) h.add(v.x, v.weight);
  h.accumulate();
  return h;
}

// Rounds and clips every value.
double exact_error(const std::vector<Value>& values, double step, Levels levels) {
  double sum = 0;
  for (const Value& v : values) {
    const double x = double{v.x};
    const double q = std::clamp(std::nearbyint(x / step), -levels.negative, levels.positive);
    sum += double{v.weight} * (q * step - x) * (q * step - x);
  }
  return sum;
}

TEST(ChannelHistogram, ErrorIsThatOfRoundingAndClipping) {
  const std::vector<Value> values = laplace(20000, 1);
  const ChannelHistogram h = histogram_of(values);
  // Fine, coarse with many values that vanish, and with values that are clipped on one side.
  for (double step : {0.02, 0.2, 1.0})
    for (const Levels levels : {Levels{127, 128}, Levels{20, 30}, Levels{168, 87}}) {
      const double exact = exact_error(values, step, levels);
      EXPECT_NEAR(h.error(step, levels, 1, 1), exact, 0.05 * exact)
          << step << " " << levels.positive;
    }
}

TEST(ChannelHistogram, TheTailCountsAsSoMuchLarger) {
  std::vector<Value> values = laplace(20000, 2);
  const ChannelHistogram h = histogram_of(values);
  const Levels levels{12, 13};
  const double rounding = h.error(0.2, {1000, 1000}, 1, 1);
  for (Value& v : values) v.x *= 1.5f;
  const double clipped = histogram_of(values).error(0.2, levels, 1, 1) -
                         histogram_of(values).error(0.2, {1000, 1000}, 1, 1);
  EXPECT_NEAR(h.error(0.2, levels, 1, 1.5) - rounding, clipped, 0.03 * clipped);
}

TEST(ChannelHistogram, CopiesDivideTheRoundingOnly) {
  const ChannelHistogram h = histogram_of(laplace(5000, 3));
  const Levels wide{1e6, 1e6};
  EXPECT_LT(h.error(0.05, wide, 4, 1), 0.3 * h.error(0.05, wide, 1, 1));
  const Levels narrow{3, 3};  // clipping is nearly all of it
  EXPECT_GT(h.error(0.05, narrow, 4, 1), 0.99 * h.error(0.05, narrow, 1, 1));
}

TEST(ChannelHistogram, WhatIsMissingFromAllIsTheRest) {
  const std::vector<Value> values = laplace(4000, 4);
  const ChannelHistogram all = histogram_of(values);
  ChannelHistogram part(all.top()), rest(all.top());
  for (size_t i = 0; i < values.size(); ++i)
    (i % 3 == 0 ? part : rest).add(values[i].x, values[i].weight);
  part.accumulate();
  rest.accumulate();
  EXPECT_NEAR(part.missing_from(all).error(0.1, {20, 20}, 1, 1), rest.error(0.1, {20, 20}, 1, 1),
              1e-9 * rest.error(0.1, {20, 20}, 1, 1));
}

TEST(BestStep, IsNotBeatenAndTurnsTheLongerTail) {
  std::vector<Value> values = laplace(20000, 5);
  for (Value& v : values)
    if (v.x < 0) v.x *= 4;  // the longer tail is negative
  const Levels levels{168, 87};
  const StepChoice best = best_step(histogram_of(values), levels, 1, 1);
  EXPECT_TRUE(best.flipped);
  for (Value& v : values) v.x = -v.x;
  EXPECT_FALSE(best_step(histogram_of(values), levels, 1, 1).flipped);
  for (double factor : {0.5, 0.8, 1.25, 2.0})
    EXPECT_GT(exact_error(values, best.step * factor, levels),
              0.95 * exact_error(values, best.step, levels));
}

TEST(BestStep, AChannelThatNeverMovesCostsNothing) {
  ChannelHistogram h(0);
  h.add(0, 1);
  h.accumulate();
  EXPECT_EQ(best_step(h, {}, 1, 1).error, 0);
}

}  // namespace
}  // namespace octet
