#include "src/cli/ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/cli/cli.h"
#include "src/dist/launch.h"
#include "src/machine/topology.h"

namespace octet::cli {
namespace {

// A rank that works may be silent for long; one that ends is noticed at once.
constexpr double kPatience = 600;
// What is wrong on all ranks, the first one says; it ends the others before they do.
constexpr auto kFirstSpeaks = std::chrono::seconds(2);

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof(name) - 1);
  return name;
}

}  // namespace

sigset_t job_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGINT);
  ::sigaddset(&set, SIGTERM);
  return set;
}

std::vector<std::string> own_command() {
  std::ifstream line("/proc/self/cmdline");
  std::vector<std::string> words;
  for (std::string word; std::getline(line, word, '\0');) words.push_back(word);
  words.at(0) = fs::read_symlink("/proc/self/exe").string();
  return words;
}

void note_crowding(size_t ranks) {
  if (ranks > allowed_cores())
    notice(fmt::format("{} ranks share {} cores: they take turns", ranks, allowed_cores()));
}

void check_count(size_t asked, const Communicator& ranks, const char* flag) {
  if (asked != 1 && asked != ranks.size())
    throw Error("the job has another number of ranks", ErrorKind::kUsage)
        .field(flag)
        .expected(fmt::format("{}, as many as the launcher started", ranks.size()))
        .found(std::to_string(asked));
}

void explain_end(const JobEnd& end) {
  if (end.code == 0 || end.code == kSaid || end.said) return;
  fmt::print(stderr, "octet: error: {}\n",
             end.code > 128
                 ? fmt::format("a rank was ended by signal {}", end.code - 128)
                 : fmt::format("the ranks have ended (the launcher: exit code {})", end.code));
}

void end_job(MpiJob& job) {
  const Communicator& ranks = job.ranks();
  const bool leads = ranks.rank() == 0;
  try {
    throw;
  } catch (const RankError&) {
    if (!leads) ::_exit(1);  // the first rank says so
  } catch (...) {
  }
  if (!leads) std::this_thread::sleep_for(kFirstSpeaks);
  const int code = explain_exception(
      leads ? "" : fmt::format("rank {} of {} on {}: ", ranks.rank(), ranks.size(), host_name()));
  std::fflush(nullptr);
  // Not by leaving, for which all ranks would have to come together.
  job.abort(report_end() || !in_job() ? code : kSaid);
}

void add_ranks_flag(CLI::App* app, size_t& ranks) {
  app->add_option("--tp,--tensor-parallel-size", ranks,
                  "ranks on this host that share the work (mpirun starts them across hosts)")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
}

void on_ranks(size_t count, const std::function<void(Communicator&)>& work) {
  if (!MpiJob::joined()) {
    if (count == 1) return work(*solo_communicator());
    note_crowding(count);
    const JobEnd end = Job(count, own_command(), Launcher::kMpirun).run();
    explain_end(end);
    if (end.code != 0) throw Exit{end.code == 2 || end.code == kInterrupted ? end.code : 1};
    return;
  }
  const bool follows = MpiJob::follows();
  // Before there are other threads, so that none of them gets one. The first rank of a job that
  // a Job started gets a SIGINT when the user wants an end; the SIGTERM of mpirun means that
  // another rank has ended, which it is about to find out.
  sigset_t leave = job_signals();
  if (!follows) ::sigdelset(&leave, SIGINT);
  if (follows || in_job()) ::pthread_sigmask(SIG_BLOCK, &leave, nullptr);
  MpiJob::Options options;
  options.patience = kPatience;
  MpiJob job(options);
  take_cores(job.rank_on_host(), job.ranks_on_host());
  Communicator& ranks = job.ranks();
  try {
    if (!follows) lead_job();
    check_count(count, ranks, "--tp");
    work(ranks);
  } catch (...) {
    end_job(job);
  }
}

}  // namespace octet::cli
