// How far a figure can be trusted: 95 % confidence intervals by drawing the passages anew.
#pragma once

#include <optional>
#include <span>

namespace octet {

// A confidence interval.
struct Interval {
  double low = 0, high = 0;
};

// Of sum(numerators) / sum(denominators), one pair a passage: passages are drawn with replacement,
// as many as there are, kResamples times, and the interval holds the middle 95 % of the ratios
// (percentile bootstrap). The draws depend on the number of passages alone, so two models are
// judged on the same ones. Nothing for fewer than two passages.
inline constexpr int kResamples = 1000;
std::optional<Interval> ratio_interval(std::span<const double> numerators,
                                       std::span<const double> denominators);

}  // namespace octet
