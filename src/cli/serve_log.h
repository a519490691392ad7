// The log of a server: spdlog's default logger on stdout, from a thread of its own
// (base/line_writer.h), so that whoever reads it can neither stop nor end the server.
#pragma once

#include <memory>
#include <string>

namespace octet::cli {

class ServeLog {
 public:
  // Ignores SIGPIPE from now on. `color`: of the level, where stdout is a terminal.
  explicit ServeLog(bool color);
  ~ServeLog();  // spdlog writes to stdout itself again
  ServeLog(const ServeLog&) = delete;
  ServeLog& operator=(const ServeLog&) = delete;

  void print(const std::string& line);  // as it is, with its newline
  // Before the process ends at once: the last lines. Others may log meanwhile; theirs are lost.
  void finish();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::cli
