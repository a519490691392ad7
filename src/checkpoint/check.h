// `octet check`: whether a model folder keeps the rules that loaders (vLLM-Ascend, MindIE, Octet)
// set, as far as they can be checked without running it (docs/formats.md lists them).
#pragma once

#include <string>
#include <vector>

#include "src/base/file.h"

namespace octet {

enum class Severity { kError, kWarning };  // refused or wrong results; loads, but not everywhere

struct Finding {
  Severity severity;
  std::string file;    // "" = the folder
  std::string tensor;  // "" = none
  std::string problem;
  std::string expected, found, remedy;  // "" = none
};

// Everything that is wrong with the folder, worst causes first. Never throws for what is in it.
std::vector<Finding> check_folder(const fs::path& folder);

}  // namespace octet
