#include "src/checkpoint/findings.h"

namespace octet {

std::string describe(const Finding& f) {
  std::string line;
  if (!f.file.empty()) line += f.file + ": ";
  if (!f.tensor.empty()) line += f.tensor + ": ";
  line += f.problem;
  if (!f.expected.empty()) line += "; expected " + f.expected;
  if (!f.found.empty()) line += (f.expected.empty() ? "; found " : ", found ") + f.found;
  if (!f.remedy.empty()) line += " (" + f.remedy + ")";
  return line;
}

}  // namespace octet
