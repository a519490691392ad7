#include "src/model/rope.h"

#include <cmath>
#include <numbers>

namespace octet {
namespace {

// rope_type "llama3" (Llama 3.1 report; transformers' modeling_rope_utils): long wavelengths are
// divided by factor, short ones kept, those between blended linearly in original / wavelength.
double scaled(double freq, const RopeScaling& s) {
  const double original = static_cast<double>(s.original_max_position);
  const double wavelength = 2 * std::numbers::pi / freq;
  if (wavelength < original / s.high_freq_factor) return freq;
  if (wavelength > original / s.low_freq_factor) return freq / s.factor;
  const double smooth =
      (original / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * freq / s.factor + smooth * freq;
}

}  // namespace

Rope::Rope(const ModelConfig& config) {
  const int64_t half = config.head_dim / 2;
  for (int64_t i = 0; i < half; ++i) {
    const double exponent = static_cast<double>(2 * i) / static_cast<double>(config.head_dim);
    const double freq = 1.0 / std::pow(config.rope_theta, exponent);
    inv_freq_.push_back(
        static_cast<float>(config.rope_scaling ? scaled(freq, *config.rope_scaling) : freq));
  }
}

void Rope::angles(size_t position, float* cos, float* sin) const {
  for (size_t i = 0; i < inv_freq_.size(); ++i) {
    const float angle = static_cast<float>(position) * inv_freq_[i];  // float, as transformers
    cos[i] = std::cos(angle);
    sin[i] = std::sin(angle);
  }
}

}  // namespace octet
