// Streaming quantization of a float model folder to an int8 folder.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/dist/communicator.h"
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
  std::string method;  // "by the recipe octet"
  KeptInFloat kept;
  std::vector<std::string>
      per_token;  // linears of W8A8_DYNAMIC in a model that has static ones too
  double seconds = 0;
};

// Quantizes `model` into the folder `target`, which appears whole or not at all. Token ids must be
// in the vocabulary. Without samples only types without static ranges work, no level, and no KV
// cache. One layer's weights are in memory at a time. Throws Error. `finish` may add files to the
// folder, which is complete but for the report, before it appears, and add to the report, which is
// written then; it is not called with compat_msmodelslim, whose folders have none.
//
// Several ranks share the work, all of them called with the same arguments; the first one writes,
// and all end when it does. The bytes are those of one rank. Throws RankError when another does not
// answer.
using Finish = std::function<void(const fs::path& folder, ordered_json& report)>;
QuantizeSummary quantize(const fs::path& model, const fs::path& target, const CalibrationData& data,
                         const QuantizeOptions& options, const Finish& finish = {},
                         Communicator* ranks = nullptr);

}  // namespace octet
