// Signal-to-noise ratios.
#pragma once

#include <cmath>
#include <optional>

namespace octet {

// 10 log10(signal / noise), of sums of squares: at most kExact, which stands for no noise at all;
// nothing without a signal.
inline constexpr double kExact = 200;
inline std::optional<double> decibels(double signal, double noise) {
  if (!(signal > 0)) return std::nullopt;
  // Differences of large sums end a little above or below zero.
  if (noise <= signal * 1e-20) return kExact;
  return 10 * std::log10(signal / noise);
}

// Sums of squares of wanted values, and of what others are off.
struct SignalNoise {
  double signal = 0, noise = 0;

  void add(double wanted, double got) {
    signal += wanted * wanted;
    noise += (got - wanted) * (got - wanted);
  }
  std::optional<double> ratio() const { return decibels(signal, noise); }
};

}  // namespace octet
