// The YAML files of msModelSlim v1 (its "practices", apiversion modelslim_v1): a list of
// processors, each with its fields, in the words of ToolMethod (docs/quantize.md).
#pragma once

#include <string>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/quant/settings/output_settings.h"
#include "src/quant/settings/tool_method.h"

namespace octet {

struct Practice {
  ToolMethod method;
  OutputSettings output;  // but for the layout, which the caller names
  std::string dataset;    // the calibration text that it names, as it stands there; "" = none
  std::vector<std::string> notes;  // fields that change nothing here
};

// `yaml` was read from `where`; patterns of names are resolved for the linears of `config`. Throws
// kUsage Error naming the processor, field or value that is unknown or not supported.
Practice parse_practice(const std::string& yaml, const std::string& where,
                        const ModelConfig& config);

// The practice of a --quant_type: w8a8, w8a16, w8a8c8. Throws kUsage Error for others.
std::string builtin_practice(const std::string& quant_type);

}  // namespace octet
