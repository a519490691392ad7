#include "src/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <csignal>
#include <mutex>
#include <utility>

#include "src/base/say.h"

namespace octet {

using Clock = std::chrono::steady_clock;

namespace {

// What a signal leaves for the next update(), of whichever progress that is.
std::atomic<bool> interrupted{false};
static_assert(std::atomic<bool>::is_always_lock_free);  // a signal handler writes it

void note_interrupt(int) { interrupted.store(true, std::memory_order_relaxed); }

// The handlers are the process's: the first watcher sets them, the last brings the old ones back.
std::mutex handlers_mutex;
size_t watchers = 0;
struct sigaction old_int = {}, old_term = {};

void watch_signals() {
  const std::lock_guard lock(handlers_mutex);
  if (watchers++ > 0) return;
  struct sigaction once = {};
  once.sa_handler = note_interrupt;
  once.sa_flags = static_cast<int>(SA_RESETHAND);
  ::sigaction(SIGINT, &once, &old_int);
  ::sigaction(SIGTERM, &once, &old_term);
}

void leave_signals() {
  const std::lock_guard lock(handlers_mutex);
  if (--watchers > 0) return;
  ::sigaction(SIGINT, &old_int, nullptr);
  ::sigaction(SIGTERM, &old_term, nullptr);
}

}  // namespace

Progress::Progress(std::string what, std::string unit, int64_t total, bool quiet)
    : what_(std::move(what)),
      unit_(std::move(unit)),
      total_(total),
      quiet_(quiet),
      terminal_(::isatty(STDERR_FILENO) == 1),
      start_(Clock::now()),
      last_draw_(start_ - std::chrono::hours(1)) {
  watch_signals();
}

Progress::~Progress() {
  leave_signals();
  if (!quiet_ && terminal_ && !finished_ && done_ > 0) say("\n");
}

double Progress::elapsed_seconds() const {
  return std::chrono::duration<double>(Clock::now() - start_).count();
}

void Progress::resume_at(int64_t done) {
  first_ = done_ = done;
  if (quiet_ || done == 0) return;
  say(fmt::format("{}: resumed at {} {} of {}\n", what_, unit_, done, total_));
}

void Progress::update(int64_t done, const std::string& note) {
  if (interrupted.exchange(false, std::memory_order_relaxed)) throw Interrupted();
  done_ = done;
  note_ = note;
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (Clock::now() - last_draw_ < pause) return;
  draw(false);
}

void Progress::finish() {
  if (std::exchange(finished_, true)) return;
  done_ = total_;
  note_.clear();
  draw(true);
}

void Progress::draw(bool last) {
  if (quiet_) return;
  last_draw_ = Clock::now();
  const double elapsed = elapsed_seconds();
  const double fraction = total_ > 0 ? static_cast<double>(done_) / static_cast<double>(total_) : 1;
  std::string line = fmt::format("{}: {} {}/{}", what_, unit_, done_, total_);
  if (terminal_) {
    constexpr int kWidth = 28;
    const int filled = std::clamp(static_cast<int>(fraction * kWidth), 0, kWidth);
    line =
        fmt::format("{} [{}{}] {}/{} {}s", what_, std::string(static_cast<size_t>(filled), '='),
                    std::string(static_cast<size_t>(kWidth - filled), ' '), done_, total_, unit_);
  }
  line += fmt::format(", {}", format_seconds(elapsed));
  if (bytes_ > 0 && elapsed > 0) line += ", " + format_rate(static_cast<double>(bytes_) / elapsed);
  if (!last && done_ > first_)
    line += fmt::format(", {} left", format_seconds(elapsed / static_cast<double>(done_ - first_) *
                                                    static_cast<double>(total_ - done_)));
  if (!note_.empty()) line += "  " + note_;
  say(terminal_ ? fmt::format("\r\033[K{}{}", line, last ? "\n" : "") : line + "\n");
}

std::string format_bytes(uint64_t bytes) {
  const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  double v = static_cast<double>(bytes);
  size_t u = 0;
  while (v >= 1024 && u + 1 < std::size(units)) {
    v /= 1024;
    ++u;
  }
  return u == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", v, units[u]);
}

std::string format_rate(double bytes_per_second) {
  if (bytes_per_second < 9.95e6) return fmt::format("{:.1f} MB/s", bytes_per_second / 1e6);
  return bytes_per_second < 1e9 ? fmt::format("{:.0f} MB/s", bytes_per_second / 1e6)
                                : fmt::format("{:.2f} GB/s", bytes_per_second / 1e9);
}

std::string format_seconds(double seconds) {
  if (seconds < 10) return fmt::format("{:.1f} s", seconds);
  if (seconds < 60) return fmt::format("{:.0f} s", seconds);
  const int64_t s = std::llround(seconds);
  if (s < 3600) return fmt::format("{} min {:02} s", s / 60, s % 60);
  return fmt::format("{} h {:02} min", s / 3600, s / 60 % 60);
}

}  // namespace octet
