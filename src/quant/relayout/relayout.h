// A quantized checkpoint from one layout to another: between those of Ascend's tools, and to and
// from compressed-tensors (docs/convert.md). Nothing is quantized anew and nothing is lost
// silently: what the other layout cannot hold is refused, and what it holds in another form comes
// back bit for bit on the way back.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/checkpoint/layout.h"

namespace octet {

struct RelayoutOptions {
  Layout to = Layout::kOctet;
  uint64_t part_bytes = 0;  // shard size; 0 = one file. Not heeded on the way back
  bool overwrite = false;
};

struct RelayoutResult {
  Layout from;
  bool way_back = false;           // the folder was made from one in the layout `to`: that is back
  std::vector<std::string> notes;  // what a reader of the result should know
};

// Writes `folder` in the layout options.to into the folder `out`, which appears whole or not at
// all. `progress` gets (tensors done, all, name). Throws Error.
RelayoutResult relayout(
    const fs::path& folder, const fs::path& out, const RelayoutOptions& options,
    const std::function<void(int64_t, int64_t, const std::string&)>& progress = {});

}  // namespace octet
