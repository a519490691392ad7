// Holds generated text back while it could be the start of a stop string, and finds the strings.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/base/shared.h"

namespace octet {

class StopMatcher {
 public:
  StopMatcher(Shared<std::string> stops, bool include_stop)
      : stops_(std::move(stops)), include_(include_stop) {}

  // Adds text; returns what may go out now. A stop string counts as soon as it is complete; of
  // several that `text` completes the one that begins first, of those the one listed first. After
  // a match nothing more goes out. With `may_stop` false no stop string ends in `text`; one that
  // begins in it counts when later text completes it.
  std::string push(const std::string& text, bool may_stop = true);
  // What was held back, when generation ends without a match.
  std::string flush();
  // The stop string that was found, if any.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  Shared<std::string> stops_;
  bool include_;
  std::string held_;
  size_t passed_ = 0;  // bytes of held_ in which no stop string may end
  std::optional<std::string> matched_;
};

}  // namespace octet
