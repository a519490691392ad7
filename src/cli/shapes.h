// The shapes of known models, for verbs that need no weights of them.
#pragma once

#include <cstdint>
#include <string>

#include "src/base/json.h"
#include "src/checkpoint/quant_description.h"

namespace octet::cli {

// "qwen2.5-0.5b, ..."
std::string shape_names();
// config.json of a shape with so many of its layers (0 = all). Throws kUsage Error for what it does
// not have.
ordered_json shape_config(const std::string& name, int64_t layers = 0);
// The value of --type. Throws kUsage Error.
Scheme scheme_of_flag(const std::string& type);

}  // namespace octet::cli
