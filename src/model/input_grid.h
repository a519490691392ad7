// The grid on which an int8 linear sees its input: what rounding an input costs.
#pragma once

#include <optional>
#include <string>

#include "src/checkpoint/model_folder.h"

namespace octet {

struct InputGrid {
  bool per_token = false;       // then the scale is max|x| / 127 of every row, the offset 0
  float scale = 1, offset = 0;  // static: levels are (q - offset) * scale, q from -128 to 127

  float low() const { return scale * (-128 - offset); }
  float high() const { return scale * (127 - offset); }
  // y [k] = what the linear computes with in place of x [k].
  void round(const float* x, size_t k, float* y) const;
};

// Of the linear `prefix`, for tokens of a prompt; nothing for one with float inputs.
std::optional<InputGrid> input_grid(const ModelFolder& folder, const std::string& prefix);

}  // namespace octet
