// What a quantization came to, for people: types and bytes by role.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "src/quant/settings/layer_choice.h"

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
// Fills in the rows and sums of bytes of the float folder `before` and the quantized one `after`,
// and the linears per token.
void summarize(const ModelFolder& before, const ModelFolder& after, QuantizeSummary& s);

}  // namespace octet
