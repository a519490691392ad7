// `octet check`: whether a model folder keeps the rules that loaders (vLLM-Ascend, MindIE, Octet)
// set, as far as they can be checked without running it (docs/formats.md lists them).
#pragma once

#include <vector>

#include "src/base/file.h"
#include "src/checkpoint/findings.h"

namespace octet {

// Everything that is wrong with the folder, worst causes first. Never throws for what is in it.
std::vector<Finding> check_folder(const fs::path& folder);

}  // namespace octet
