// The way back: what a converted folder keeps of the one that it was made from, so that converting
// it back gives the same bytes; for relayout.cc.
#pragma once

#include <optional>

#include "src/quant/relayout/relayout_plan.h"

namespace octet {

// Writes into `converted`, a folder just made from `source`, what the plan back does not make again
// by itself: octet_source.json and, for tensors, octet_source.tensors. No loader reads them.
void keep_way_back(const QuantizedSource& source, const fs::path& converted);

// The layout that the folder was made from, if it says so.
std::optional<Layout> way_back(const fs::path& folder);

// The plan for that layout's very files; `part_bytes` gets its shard size. Throws Error when the
// weights have changed since.
LayoutPlan plan_way_back(const QuantizedSource& converted, uint64_t& part_bytes);

}  // namespace octet
