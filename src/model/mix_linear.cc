#include "src/model/mix_linear.h"

#include <algorithm>
#include <vector>

#include "src/base/error.h"

namespace octet {

MixLinear::MixLinear(std::shared_ptr<const Int8Weights> weights, const W8A8Params& generated,
                     const DynamicParams& prompt)
    : Int8Linear(weights), generated_(weights, generated), prompt_(weights, prompt) {}

Int8Linear& MixLinear::of(const RowRun& run) {
  if (run.generated) return generated_;
  return prompt_;
}

void MixLinear::stage_rows(const Rows& in, size_t begin, size_t end, StageBuffer& buffer,
                           size_t slot) {
  for (const RowRun& run : buffer.runs())
    of(run).stage_rows(in, std::max(begin, run.begin), std::min(end, run.end), buffer, slot);
}

void MixLinear::stage_rows_within(const Rows& in, size_t begin, size_t end, const float* maximum,
                                  StageBuffer& buffer, size_t slot) {
  for (const RowRun& run : buffer.runs())
    of(run).stage_rows_within(in, std::max(begin, run.begin), std::min(end, run.end), maximum,
                              buffer, slot);
}

void MixLinear::finish_rows(const int32_t* sums, const Output& out, size_t begin, size_t end,
                            StageBuffer& buffer, size_t slot) {
  for (const RowRun& run : buffer.runs())
    of(run).finish_rows(sums, out, std::max(begin, run.begin), std::min(end, run.end), buffer,
                        slot);
}

void MixLinear::multiply(const GemmTile& tile, const Product& product, StageBuffer& buffer,
                         size_t slot) {
  const std::vector<RowRun>& runs = buffer.runs();
  OCTET_CHECK(!runs.empty() && runs.back().end >= tile.row_end);
  // Panel by panel, so that the weights come from memory once however many runs there are.
  const size_t step = runs.size() == 1 ? tile.panel_end - tile.panel_begin : 1;
  for (size_t p = tile.panel_begin; p < tile.panel_end; p += step)
    for (const RowRun& run : runs) {
      const GemmTile part = {p, p + step, std::max(tile.row_begin, run.begin),
                             std::min(tile.row_end, run.end)};
      if (part.row_begin < part.row_end) of(run).multiply(part, product, buffer, slot);
    }
}

}  // namespace octet
