// Streaming quantization of a float model folder to an int8 folder.
#pragma once

#include <functional>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"
#include "src/dist/communicator.h"
#include "src/quant/output/summary.h"
#include "src/quant/settings/calibration.h"
#include "src/quant/settings/options.h"

namespace octet {

// The model, of which quantize() can make something as far as its config and the headers of its
// tensors tell. Throws Error for one that is quantized already, or whose tensors are missing or of
// the wrong kind.
ModelFolder open_float_model(const fs::path& model);

// Quantizes `model` into the folder `target`, which appears whole or not at all. Token ids must be
// in the vocabulary. Without samples only types without static ranges work, no level, and no KV
// cache. One layer's weights are in memory at a time. Throws Error. `finish` may add files to the
// folder, which is complete but for the report, before it appears, and add to the report, which is
// written then; it is not called for msModelSlim v0's layouts, whose folders have none.
//
// Several ranks share the work, all of them called with the same arguments; the first one writes,
// and all end when it does. The bytes are those of one rank. Throws RankError when another does not
// answer.
using Finish = std::function<void(const fs::path& folder, ordered_json& report)>;
QuantizeSummary quantize(const fs::path& model, const fs::path& target, const CalibrationData& data,
                         const QuantizeOptions& options, const Finish& finish = {},
                         Communicator* ranks = nullptr);

}  // namespace octet
