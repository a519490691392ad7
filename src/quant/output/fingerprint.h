// What decides the bytes of a quantization, so that an interrupted one goes on with the same only.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/quant/output/journal.h"
#include "src/quant/settings/calibration.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/recipe.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

// The version of this program, "0.1.0".
const char* program_version();

// The tokens of calibration text, 16 hexadecimal digits.
std::string tokens_hash(const std::vector<TokenBatch>& batches);

// The model's files (weights by name, size and time), the texts' tokens, every option that reaches
// the output, and what sums depend on: instruction set, this program's version.
Fingerprint fingerprint_of(const ModelFolder& folder, const CalibrationData& data,
                           const OutputSettings& output,
                           const std::variant<ToolMethod, Recipe>& method);

}  // namespace octet
