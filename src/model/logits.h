// What a model computes when its weights are broken.
#pragma once

#include <span>

#include "src/base/error.h"
#include "src/checkpoint/model_folder.h"

namespace octet {

// Whether none of the values is NaN or infinite.
bool all_finite(std::span<const float> values);

// The Error for logits that are not: text made of them would be one token again and again.
Error broken_logits(const ModelFolder& folder);

}  // namespace octet
