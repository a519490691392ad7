// What `octet check` finds, and how it is gathered.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace octet {

enum class Severity { kError, kWarning };  // refused or wrong results; loads, but not everywhere

struct Finding {
  Severity severity;
  std::string file;    // "" = the folder
  std::string tensor;  // "" = none
  std::string problem;
  std::string expected, found, remedy;  // "" = none
};

// In one line: "FILE: TENSOR: PROBLEM; expected ..., found ... (REMEDY)".
std::string describe(const Finding& finding);

class Findings {
 public:
  // The new finding, to be filled in before the next one.
  Finding& error(std::string tensor, std::string problem) {
    return add(Severity::kError, std::move(tensor), std::move(problem));
  }
  Finding& warning(std::string tensor, std::string problem) {
    return add(Severity::kWarning, std::move(tensor), std::move(problem));
  }
  void add(std::vector<Finding> findings) {
    for (Finding& f : findings) all_.push_back(std::move(f));
  }
  std::vector<Finding> take() { return std::move(all_); }

 private:
  Finding& add(Severity severity, std::string tensor, std::string problem) {
    return all_.emplace_back(
        Finding{severity, "", std::move(tensor), std::move(problem), "", "", ""});
  }
  std::vector<Finding> all_;
};

}  // namespace octet
