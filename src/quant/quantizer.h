// Streaming quantization of a float model folder to an int8 folder.
#pragma once

#include <string>
#include <vector>

#include "src/quant/analysis.h"
#include "src/quant/layer_choice.h"
#include "src/quant/options.h"

namespace octet {

// One line of the final report: tensors of one role and type.
struct SummaryRow {
  std::string role, type;  // "q_proj", "W8A8"
  size_t count = 0;
  uint64_t bytes_before = 0, bytes_after = 0;
};

struct QuantizeSummary {
  std::vector<SummaryRow> rows;
  uint64_t bytes_before = 0, bytes_after = 0;
  KeptInFloat kept;
  double seconds = 0;
};

// Quantizes `model` into the folder `target`, which appears whole or not at all. Token ids must be
// in the vocabulary. Without samples only types without static ranges work, no level, and no KV
// cache. One layer's weights are in memory at a time. Throws Error.
QuantizeSummary quantize(const fs::path& model, const fs::path& target, const CalibrationData& data,
                         const QuantizeOptions& options);

}  // namespace octet
