#include "src/base/line_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>

namespace octet {
namespace {

class LineWriterTest : public ::testing::Test {
 protected:
  LineWriterTest() {
    EXPECT_EQ(::pipe(pipe_), 0);
    ::signal(SIGPIPE, SIG_IGN);
  }
  ~LineWriterTest() override {
    for (int fd : pipe_)
      if (fd >= 0) ::close(fd);
  }
  void close(int& fd) { ::close(std::exchange(fd, -1)); }
  // All that is in the pipe, whose writing end must be closed.
  std::string rest() {
    std::string all;
    char part[4096];
    for (ssize_t n; (n = ::read(pipe_[0], part, sizeof part)) > 0;)
      all.append(part, static_cast<size_t>(n));
    return all;
  }
  int pipe_[2] = {-1, -1};
};

TEST_F(LineWriterTest, LinesArriveInOrder) {
  {
    LineWriter writer(pipe_[1]);
    for (int i = 0; i < 100; ++i) writer.write(std::to_string(i) + "\n");
    writer.write(std::string(10000, 'x') + "\n");
  }
  close(pipe_[1]);
  std::string want;
  for (int i = 0; i < 100; ++i) want += std::to_string(i) + "\n";
  EXPECT_EQ(rest(), want + std::string(10000, 'x') + "\n");
}

// 64 KiB fit into the pipe, 1000 bytes wait: the rest is dropped, counted, and nobody waited.
TEST_F(LineWriterTest, AReaderWhoDoesNotReadStopsNobody) {
  const auto start = std::chrono::steady_clock::now();
  const std::string line(99, 'x');
  {
    LineWriter writer(pipe_[1], 1000);
    for (int i = 0; i < 2000; ++i) {
      writer.write(line + "\n");
      if (i < 600) std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(3));
    ASSERT_EQ(::fcntl(pipe_[0], F_SETFL, O_NONBLOCK), 0);
    std::string read = rest();
    EXPECT_GT(read.size(), 10000u);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    writer.write("later\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    read = rest();
    EXPECT_NE(read.find(" lines of the log are left out: nobody read it\nlater\n"),
              std::string::npos);
  }
}

TEST_F(LineWriterTest, ItsEndWaitsForNobody) {
  const auto start = std::chrono::steady_clock::now();
  {
    LineWriter writer(pipe_[1]);
    for (int i = 0; i < 200; ++i) writer.write(std::string(1000, 'x'));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(2));
}

TEST_F(LineWriterTest, AReaderWhoIsGoneEndsNothing) {
  close(pipe_[0]);
  LineWriter writer(pipe_[1]);
  for (int i = 0; i < 100; ++i) writer.write("x\n");
}

}  // namespace
}  // namespace octet
