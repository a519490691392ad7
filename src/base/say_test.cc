#include "src/base/say.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <string>
#include <thread>

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

// Puts another file in stderr's place for a test; without one (-1) it is closed.
class InStderrsPlace {
 public:
  explicit InStderrsPlace(int fd) : kept_(::dup(STDERR_FILENO)) {
    fd < 0 ? ::close(STDERR_FILENO) : ::dup2(fd, STDERR_FILENO);
  }
  ~InStderrsPlace() {
    ::dup2(kept_, STDERR_FILENO);
    ::close(kept_);
  }
  InStderrsPlace(const InStderrsPlace&) = delete;
  InStderrsPlace& operator=(const InStderrsPlace&) = delete;

 private:
  const int kept_;
};

struct Pipe {
  Pipe() { EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0); }
  ~Pipe() {
    ::close(ends[0]);
    ::close(ends[1]);
  }
  // As full as a writer can make it.
  void fill() const {
    const int flags = ::fcntl(ends[1], F_GETFL);
    ::fcntl(ends[1], F_SETFL, flags | O_NONBLOCK);
    while (::write(ends[1], "x", 1) == 1) continue;
    ::fcntl(ends[1], F_SETFL, flags);
  }
  int ends[2] = {-1, -1};
};

TEST(Say, WhatCannotBeWrittenIsLeftOut) {
  const int full = ::open("/dev/full", O_WRONLY | O_CLOEXEC);
  ASSERT_GE(full, 0);
  errno = 0;
  {
    const InStderrsPlace place(full);
    say("text\n");
    say_briefly("text\n");
  }
  {
    const InStderrsPlace closed(-1);
    say("text\n");
    say_briefly("text\n");
  }
  ::close(full);
  EXPECT_EQ(errno, 0);
}

// SIGPIPE would end this program.
TEST(Say, AReaderThatIsGoneEndsNothing) {
  Pipe pipe;
  ::close(pipe.ends[0]);
  pipe.ends[0] = -1;
  {
    const InStderrsPlace place(pipe.ends[1]);
    say("text\n");
    say_briefly("text\n");
  }
  sigset_t pending;
  ::sigpending(&pending);
  EXPECT_EQ(::sigismember(&pending, SIGPIPE), 0);
}

// More than a pipe holds, also where a write of it would not wait.
TEST(Say, ALongTextArrivesWhole) {
  const std::string text(300'000, 'a');
  for (const int flags : {0, O_NONBLOCK}) {
    Pipe pipe;
    ::fcntl(pipe.ends[1], F_SETFL, flags);
    std::string found;
    std::thread reader([&] {
      char buffer[1 << 12];
      while (found.size() < text.size()) {
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
        const ssize_t n = ::read(pipe.ends[0], buffer, sizeof(buffer));
        if (n <= 0) return;
        found.append(buffer, static_cast<size_t>(n));
      }
    });
    {
      const InStderrsPlace place(pipe.ends[1]);
      say(text);
    }
    reader.join();
    EXPECT_TRUE(found == text);
  }
}

TEST(Say, BrieflyIsNotForever) {
  const Pipe pipe;
  pipe.fill();
  const auto start = Clock::now();
  {
    const InStderrsPlace place(pipe.ends[1]);
    say_briefly("text\n");
  }
  EXPECT_LT(Clock::now() - start, std::chrono::seconds(5));
}

}  // namespace
}  // namespace octet
