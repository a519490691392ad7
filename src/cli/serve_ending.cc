#include "src/cli/serve_ending.h"

#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <utility>

#include "src/base/say.h"
#include "src/cli/cli.h"
#include "src/cli/ranks.h"
#include "src/dist/launch.h"

namespace octet::cli {
namespace {

// After a rank is lost: so long /health says 503 and requests get an error.
constexpr auto kLastAnswers = std::chrono::seconds(1);

}  // namespace

void end_soon() {
  ::signal(SIGALRM, [](int) { ::_exit(1); });
  sigset_t one;
  ::sigemptyset(&one);
  ::sigaddset(&one, SIGALRM);
  ::pthread_sigmask(SIG_UNBLOCK, &one, nullptr);
  ::alarm(2);
}

sigset_t ServeEnding::signals() {
  sigset_t set = job_signals();
  ::sigaddset(&set, SIGHUP);
  return set;
}

ServeEnding::ServeEnding(MpiJob& job, bool restarts) : job_(job), restarts_(restarts) {
  thread_ = std::thread([this] { obey(); });
}

ServeEnding::~ServeEnding() {
  over_ = true;
  ::pthread_kill(thread_.native_handle(), SIGTERM);
  thread_.join();
}

ServeEnding::Serving::Serving(ServeEnding& ending, server::Server& server) : ending_(ending) {
  const std::lock_guard lock(ending_.mutex_);
  ending_.server_ = &server;
  if (ending_.stopped_) server.stop();
}

ServeEnding::Serving::~Serving() {
  const std::lock_guard lock(ending_.mutex_);
  ending_.server_ = nullptr;
  ending_.stopped_ = true;
}

void ServeEnding::stop() {
  const std::lock_guard lock(mutex_);
  stopped_ = true;
  if (server_ != nullptr) server_->stop();
}

void ServeEnding::lose_rank(const std::string& why) {
  lost_ = true;
  const auto end = std::chrono::steady_clock::now() + kLastAnswers;
  if (!job_.launcher_explains(kLastAnswers) && claim_error() != ErrorClaim::kOthers)
    say_briefly(
        fmt::format("octet: error: {}; the {}\n", why, restarts_ ? "ranks end" : "server ends"));
  std::this_thread::sleep_until(end);
  stop();
  stop();  // at once, whatever clients still send or do not read
}

// mpirun, or its daemon, sends SIGTERM, too, when another rank has ended, and SIGKILL a second
// later: the engine is to find that out at once, and the server to answer so until it stops.
void ServeEnding::obey() {
  const sigset_t set = signals();
  siginfo_t info;
  for (bool first = true; !over_;) {
    const int signal = ::sigwaitinfo(&set, &info);
    if (signal < 0 || over_) continue;
    if (signal == SIGHUP) {
      const std::lock_guard lock(mutex_);
      if (server_ != nullptr) server_->reload();  // else the files are still to be read
      continue;
    }
    if (info.si_pid == ::getppid()) job_.give_up();
    {
      const std::lock_guard lock(mutex_);
      if (server_ == nullptr && !stopped_) ::_exit(kInterrupted);  // the launcher ends the others
    }
    const bool again = !std::exchange(first, false);
    if (!again) std::this_thread::sleep_for(kLastAnswers);
    if (lost_) continue;
    stop();
    if (again) end_soon();  // the server would wait for its pool, and for other ranks
  }
}

}  // namespace octet::cli
