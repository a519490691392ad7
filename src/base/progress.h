// Progress of long work on stderr: a bar on a terminal, one line every few seconds on a pipe.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace octet {

// Thrown when the user interrupts long work (SIGINT, SIGTERM).
struct Interrupted {
  std::string remedy = {};  // how to go on, if that is possible
};

// While one is alive, a first SIGINT or SIGTERM ends the work at its next update() by Interrupted,
// so that half-written files are cleaned away; a second one kills the program.
class Progress {
 public:
  // `what` e.g. "quantize"; `unit` e.g. "layer". Total 0 is allowed (nothing to do).
  Progress(std::string what, std::string unit, int64_t total, bool quiet = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // An earlier run finished `done` units: what remains is estimated from the others.
  void resume_at(int64_t done);
  // So many bytes more were read: their rate is shown.
  void add_bytes(uint64_t bytes) { bytes_ += bytes; }
  // `done` units are finished; `note` says what is going on. Safe to call often. Throws
  // Interrupted.
  void update(int64_t done, const std::string& note = "");
  void finish();  // the last line, with the total time
  double elapsed_seconds() const;

 private:
  void draw(bool last);

  std::string what_, unit_, note_;
  int64_t total_, done_ = 0, first_ = 0;  // first_: where this run began
  uint64_t bytes_ = 0;
  bool quiet_, terminal_, finished_ = false;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

// "1.2 GiB", "1.23 GB/s", "12 MB/s" or "0.4 MB/s", "12 s", "3 min 05 s".
std::string format_bytes(uint64_t bytes);
std::string format_rate(double bytes_per_second);
std::string format_seconds(double seconds);

}  // namespace octet
