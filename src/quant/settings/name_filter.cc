#include "src/quant/settings/name_filter.h"

#include <fnmatch.h>

#include <algorithm>

namespace octet {
namespace {

bool matches(const std::string& pattern, const std::string& name) {
  const size_t open = pattern.find('{');
  const size_t close = open == std::string::npos ? open : pattern.find('}', open);
  if (close == std::string::npos) return fnmatch(pattern.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
  for (size_t begin = open + 1; begin <= close;) {
    const size_t end = std::min(pattern.find(',', begin), close);
    if (matches(pattern.substr(0, open) + pattern.substr(begin, end - begin) +
                    pattern.substr(close + 1),
                name))
      return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

bool NameFilter::takes(const std::string& name) const {
  const auto any = [&](const std::vector<std::string>& patterns) {
    return std::ranges::any_of(patterns, [&](const std::string& p) { return matches(p, name); });
  };
  return any(include) && !any(exclude);
}

}  // namespace octet
