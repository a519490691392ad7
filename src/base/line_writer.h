// Lines for a descriptor that somebody else reads, perhaps slowly, perhaps no more: written by a
// thread of its own, so that a reader who stops can neither stop nor end the program.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

namespace octet {

class LineWriter {
 public:
  static constexpr size_t kLimit = size_t{1} << 20;

  // `fd` stays the caller's. At most `limit` bytes wait; lines beyond them are dropped, and a line
  // says how many once there is room again. SIGPIPE must be ignored.
  explicit LineWriter(int fd, size_t limit = kLimit);
  ~LineWriter() { finish(); }
  LineWriter(const LineWriter&) = delete;
  LineWriter& operator=(const LineWriter&) = delete;

  // Any thread; never waits for the reader.
  void write(std::string line);
  // Waits for what is left, but not for a reader who does not read: half a second at most. Nothing
  // is written afterwards.
  void finish();

 private:
  void run();
  bool write_out(const std::string& line);
  bool late();

  const int fd_;
  const size_t limit_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::deque<std::string> lines_;
  size_t bytes_ = 0, dropped_ = 0;
  bool ending_ = false;
  std::chrono::steady_clock::time_point end_;  // with ending_: no longer than until then
  std::thread thread_;
};

}  // namespace octet
