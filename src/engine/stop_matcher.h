// Holds generated text back while it could be the start of a stop string, and finds the strings.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace octet {

class StopMatcher {
 public:
  StopMatcher(std::vector<std::string> stops, bool include_stop)
      : stops_(std::move(stops)), include_(include_stop) {}

  // Adds text; returns what may go out now. A stop string counts as soon as it is complete; of
  // several that `text` completes the one that begins first, of those the one listed first. After
  // a match nothing more goes out.
  std::string push(const std::string& text);
  // What was held back, when generation ends without a match.
  std::string flush();
  // The stop string that was found, if any.
  const std::optional<std::string>& matched() const { return matched_; }

 private:
  std::vector<std::string> stops_;
  bool include_;
  std::string held_;
  std::optional<std::string> matched_;
};

}  // namespace octet
