#include "src/base/say.h"

#include <poll.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdint>

namespace octet {
namespace {

constexpr int64_t kBrief = 500;  // milliseconds
constexpr int64_t kForever = -1;

int64_t now_milliseconds() {
  timespec t = {};
  ::clock_gettime(CLOCK_MONOTONIC, &t);
  return int64_t{1000} * t.tv_sec + t.tv_nsec / 1'000'000;
}

// Not more at a time than a pipe takes whole when it is ready, so that write() itself never waits.
void write_within(std::string_view text, int64_t patience) {
  const int64_t end = now_milliseconds() + patience;
  while (!text.empty()) {
    const int64_t left = std::max<int64_t>(0, end - now_milliseconds());
    pollfd ready = {STDERR_FILENO, POLLOUT, 0};
    const int found = ::poll(&ready, 1, patience == kForever ? -1 : static_cast<int>(left));
    if (found == 0) return;
    const ssize_t n =
        found < 0 ? -1
                  : ::write(STDERR_FILENO, text.data(), std::min<size_t>(text.size(), PIPE_BUF));
    if (n < 0 && errno != EINTR && errno != EAGAIN) return;
    if (n > 0) text.remove_prefix(static_cast<size_t>(n));
  }
}

// A pipe without a reader sends SIGPIPE to the thread that writes: it is taken back, unless one was
// under way before.
void write_without_signal(std::string_view text, int64_t patience) {
  const int errno_before = errno;
  sigset_t pipe, pending, before;
  ::sigemptyset(&pipe);
  ::sigaddset(&pipe, SIGPIPE);
  ::sigemptyset(&pending);
  ::sigpending(&pending);
  ::pthread_sigmask(SIG_BLOCK, &pipe, &before);
  write_within(text, patience);
  const timespec at_once = {};
  if (::sigismember(&pending, SIGPIPE) == 0)
    while (::sigtimedwait(&pipe, nullptr, &at_once) < 0 && errno == EINTR) continue;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = errno_before;
}

}  // namespace

void say(std::string_view text) noexcept { write_without_signal(text, kForever); }

void say_briefly(std::string_view text) noexcept { write_without_signal(text, kBrief); }

}  // namespace octet
