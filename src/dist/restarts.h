// How often ranks that have ended are started again, and after which pause.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <optional>

namespace octet {

class Restarts {
 public:
  // `most`: in a row. A job that ran for `steady` ends the row.
  explicit Restarts(size_t most, std::chrono::seconds steady = std::chrono::minutes(10))
      : most_(most), steady_(steady) {}

  // After a job that ran so long: the pause before the next, 1 s, then twice as long each time, at
  // most a minute. Nothing when there have been enough.
  std::optional<std::chrono::seconds> next(std::chrono::steady_clock::duration ran) {
    if (ran >= steady_) count_ = 0;
    if (count_ == most_) return std::nullopt;
    return std::chrono::seconds(std::min(60, 1 << std::min<size_t>(count_++, 6)));
  }
  size_t count() const { return count_; }
  size_t most() const { return most_; }

 private:
  size_t most_, count_ = 0;
  std::chrono::seconds steady_;
};

}  // namespace octet
