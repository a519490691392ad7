#include "src/cli/serve_log.h"

#include <signal.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdio>
#include <utility>

#include "src/base/line_writer.h"

namespace octet::cli {
namespace {

class LineSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  LineSink(LineWriter& writer, bool color) : writer_(writer), color_(color) {}

 private:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    std::string line(text.data(), text.size());
    if (color_ && message.color_range_end > message.color_range_start) {
      line.insert(message.color_range_end, "\033[m");
      line.insert(message.color_range_start, color_of(message.level));
    }
    writer_.write(std::move(line));
  }
  void flush_() override {}

  static const char* color_of(spdlog::level::level_enum level) {
    if (level >= spdlog::level::err) return "\033[31m\033[1m";
    if (level == spdlog::level::warn) return "\033[33m\033[1m";
    return "\033[32m";
  }

  LineWriter& writer_;
  const bool color_;
};

}  // namespace

struct ServeLog::Impl {
  LineWriter writer{STDOUT_FILENO};
  std::vector<spdlog::sink_ptr> before;
};

ServeLog::ServeLog(bool color) : impl_(std::make_unique<Impl>()) {
  ::signal(SIGPIPE, SIG_IGN);
  std::fflush(stdout);
  const auto sink =
      std::make_shared<LineSink>(impl_->writer, color && ::isatty(STDOUT_FILENO) == 1);
  impl_->before = std::exchange(spdlog::default_logger()->sinks(), {sink});
}

ServeLog::~ServeLog() { spdlog::default_logger()->sinks() = std::move(impl_->before); }

void ServeLog::finish() { impl_->writer.finish(); }

void ServeLog::print(const std::string& line) { impl_->writer.write(line); }

}  // namespace octet::cli
