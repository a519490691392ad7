// What ends a server of several ranks, seen from rank 0: a signal, or the loss of another rank.
#pragma once

#include <signal.h>

#include <atomic>
#include <mutex>
#include <string>
#include <thread>

#include "src/dist/mpi_job.h"
#include "src/server/server.h"

namespace octet::cli {

// The process ends within two seconds, with exit code 1, whatever holds it up until then: a pool
// that computes, or a last line for a pipe that another process fills between a look at it and the
// write.
void end_soon();

class ServeEnding {
 public:
  // signals() are this object's from now on; all threads must block them. SIGHUP reloads.
  // `restarts`: whether the ranks will be started again.
  ServeEnding(MpiJob& job, bool restarts);
  ~ServeEnding();
  static sigset_t signals();
  ServeEnding(const ServeEnding&) = delete;
  ServeEnding& operator=(const ServeEnding&) = delete;

  // While it lives, the server is stopped by what ends it. Before, a signal ends the process.
  class Serving {
   public:
    Serving(ServeEnding& ending, server::Server& server);
    ~Serving();
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;

   private:
    ServeEnding& ending_;
  };

  // Tells the user, and stops the server a little later. Any thread.
  void lose_rank(const std::string& why);
  bool lost_rank() const { return lost_; }

 private:
  void obey();
  void stop();

  MpiJob& job_;
  const bool restarts_;
  std::atomic<bool> lost_{false}, over_{false};
  std::mutex mutex_;  // guards what follows
  server::Server* server_ = nullptr;
  bool stopped_ = false;
  std::thread thread_;
};

}  // namespace octet::cli
