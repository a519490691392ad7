// Lists of name patterns to take and to leave, as msModelSlim v1's YAML files have them.
#pragma once

#include <string>
#include <vector>

namespace octet {

// Shell patterns over whole names: * any text, ? a character, [abc] one of them, {a,b} either.
struct NameFilter {
  std::vector<std::string> include = {"*"}, exclude;  // exclude wins
  bool takes(const std::string& name) const;
};

}  // namespace octet
