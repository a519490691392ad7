#include "src/base/line_writer.h"

#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kLast = std::chrono::milliseconds(500);
constexpr int kPollMilliseconds = 50;

}  // namespace

LineWriter::LineWriter(int fd, size_t limit) : fd_(fd), limit_(limit) {
  // Signals are for other threads.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_BLOCK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void LineWriter::finish() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
    end_ = Clock::now() + kLast;
  }
  changed_.notify_one();
  thread_.join();
}

void LineWriter::write(std::string line) {
  {
    const std::lock_guard lock(mutex_);
    if (bytes_ + line.size() > limit_) {
      ++dropped_;
      return;
    }
    if (dropped_ > 0) {
      lines_.push_back(fmt::format("{} lines of the log are left out: nobody read it\n", dropped_));
      bytes_ += lines_.back().size();
      dropped_ = 0;
    }
    bytes_ += line.size();
    lines_.push_back(std::move(line));
  }
  changed_.notify_one();
}

void LineWriter::run() {
  while (true) {
    std::string line;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return ending_ || !lines_.empty(); });
      if (lines_.empty()) return;
      line = std::move(lines_.front());
      lines_.pop_front();
    }
    const bool open = write_out(line);
    const std::lock_guard lock(mutex_);
    bytes_ -= line.size();
    if (open) continue;
    bytes_ = 0;  // for nobody any more
    lines_.clear();
  }
}

bool LineWriter::late() {
  const std::lock_guard lock(mutex_);
  return ending_ && Clock::now() >= end_;
}

// Not more at a time than a pipe takes whole when it is ready, so that write() never waits. False
// when the reader is gone, or has not read until the end.
bool LineWriter::write_out(const std::string& line) {
  for (size_t at = 0; at < line.size();) {
    if (late()) return false;
    pollfd ready = {fd_, POLLOUT, 0};
    if (::poll(&ready, 1, kPollMilliseconds) <= 0) continue;
    if ((ready.revents & (POLLERR | POLLNVAL)) != 0) return false;
    const size_t part = std::min<size_t>(line.size() - at, PIPE_BUF);
    const ssize_t n = ::write(fd_, line.data() + at, part);
    if (n < 0 && errno != EINTR && errno != EAGAIN) return false;
    if (n > 0) at += static_cast<size_t>(n);
  }
  return true;
}

}  // namespace octet
