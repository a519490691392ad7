#include "src/engine/stop_matcher.h"

#include <algorithm>
#include <string_view>
#include <utility>

namespace octet {

std::string StopMatcher::push(const std::string& text, bool may_stop) {
  if (matched_) return "";
  if (stops_.empty()) return text;
  held_ += text;
  if (!may_stop) passed_ = held_.size();
  size_t found = std::string::npos;
  const std::string* stop = nullptr;
  for (const std::string& s : stops_)
    if (const size_t at = held_.find(s, passed_ - std::min(s.size() - 1, passed_)); at < found) {
      found = at;
      stop = &s;
    }
  if (stop != nullptr) {
    matched_ = *stop;
    std::string out = held_.substr(0, found + (include_ ? stop->size() : 0));
    held_.clear();
    return out;
  }
  // Keep the longest tail that is the beginning of a stop string.
  size_t keep = 0;
  for (const std::string& s : stops_)
    for (size_t n = std::min(s.size() - 1, held_.size()); n > keep; --n)
      if (std::string_view(held_).substr(held_.size() - n) == std::string_view(s).substr(0, n)) {
        keep = n;
        break;
      }
  std::string out = held_.substr(0, held_.size() - keep);
  held_.erase(0, out.size());
  passed_ -= std::min(passed_, out.size());
  return out;
}

std::string StopMatcher::flush() {
  return std::exchange(held_, {});  // nothing after a match
}

}  // namespace octet
