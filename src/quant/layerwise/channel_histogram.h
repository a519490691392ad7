// How often a channel takes values of which size, and what an int8 step costs it.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace octet {

// The integers that values of the two signs may reach: positive + negative = 255.
struct Levels {
  double positive = 127, negative = 128;
};

class ChannelHistogram {
 public:
  // `top`: the largest |x| that will be added.
  explicit ChannelHistogram(float top = 0) : top_(top) {}

  void add(float x, float weight) {
    const float a = std::fabs(x);
    if (a == 0 || top_ == 0) return;
    Sums& s = sums_[x < 0][bin_of(a / top_)];
    s.weight += double{weight};
    s.first += double{weight} * double{a};
    s.second += double{weight} * double{a} * double{a};
  }
  // Another's sums, of the same top; both accumulated, or neither.
  void add(const ChannelHistogram& other);
  // Sums of the values at least as large as each edge instead of sums of bins: after the last
  // add(), before the rest.
  void accumulate();
  // The values of `all` that are not among these; both accumulated, of the same top.
  ChannelHistogram missing_from(const ChannelHistogram& all) const;

  // Expected weighted squared error when values are rounded to multiples of `step`: step^2 / 12 /
  // `copies` where they stay within the levels (copies of a channel err independently), the value
  // itself below step / 2, and what lies beyond the levels. `tail`: clipping is counted as if all
  // values were so many times larger, since other text has larger ones.
  double error(double step, Levels levels, double copies, double tail) const;
  float top() const { return top_; }
  // The middle of the range that leaves `share` of the weight (of values other than zero) outside
  // on either side.
  double center(double share) const;

 private:
  static constexpr size_t kPerOctave = 8, kBins = 14 * kPerOctave;
  struct Sums {
    double weight = 0, first = 0, second = 0;  // sums of weight, weight |x|, weight x^2
  };
  // The leading bits of a float, down to three of its mantissa, number bins of an eighth octave.
  static constexpr uint32_t kShift = 20;
  static constexpr size_t kOne = 0x3f800000u >> kShift;  // the bin that starts at 1
  static size_t bin_of(float share) {                    // of top
    const size_t at = std::bit_cast<uint32_t>(share) >> kShift;
    return std::min(kOne - std::min(at, kOne), kBins - 1);
  }
  static float edge(size_t bin);  // lower edge, as a share of top
  Sums above(size_t sign, double x) const;
  double quantile(size_t sign, double share) const;

  float top_;
  std::array<std::array<Sums, kBins>, 2> sums_{};  // positive, negative
};

// How one channel is to be rounded.
struct StepChoice {
  double step = 0, error = 0;
  bool flipped = false;  // the channel's sign is flipped, so that its longer tail has more levels
};
// The step, and the sign, of least error(); `copies` and `tail` as there.
StepChoice best_step(const ChannelHistogram& h, Levels levels, double copies, double tail);
// Both signs have 127 levels; of fewer steps, for comparisons of tails.
double rough_step(const ChannelHistogram& h, double tail);

}  // namespace octet
