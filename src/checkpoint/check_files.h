// The part of `octet check` that looks at the files of a folder, not at its tensors.
#pragma once

#include "src/checkpoint/findings.h"
#include "src/checkpoint/model_folder.h"

namespace octet {

// Descriptions, config.json, indexes, stray weight files, the tokenizer.
void check_files(const ModelFolder& folder, Findings& findings);

}  // namespace octet
