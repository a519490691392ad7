#include "src/cli/ranks.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <thread>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/say.h"
#include "src/cli/cli.h"
#include "src/dist/launch.h"
#include "src/machine/topology.h"

namespace octet::cli {
namespace {

// A rank that works may be silent for long; one that ends is noticed at once.
constexpr double kPatience = 600;
// What is wrong on several ranks, the first of them says; it ends the others before they do.
constexpr auto kFirstSpeaks = std::chrono::seconds(1);
constexpr auto kNextSpeaks = std::chrono::milliseconds(100);

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
  if (const size_t cores = usable_cores(); ranks > cores)
    notice(fmt::format("{} ranks share {} core{}: they take turns", ranks, cores,
                       cores == 1 ? "" : "s"));
}

void note_binding(const Communicator& ranks) {
  const size_t bound = allowed_cores(), all = machine_cores();
  if (2 * bound * ranks.on_host() <= all)
    notice(
        fmt::format("a rank may use {} of this host's {} cores; mpirun --bind-to none, or srun "
                    "--cpus-per-task, gives it more",
                    bound, all));
}

int explain_once(size_t rank, const std::string& who) {
  if (!MpiJob::joined()) return explain_exception(who);
  if (rank > 0) std::this_thread::sleep_for(kFirstSpeaks + rank * kNextSpeaks);
  const ErrorClaim claim = claim_error();
  if (claim == ErrorClaim::kOthers) return 1;
  const int code = explain_exception(who);
  std::fflush(nullptr);
  return claim == ErrorClaim::kMine || !in_job() ? code : kExplainedElsewhere;
}

void check_count(size_t asked, const Communicator& ranks, const char* flag) {
  if (asked != 1 && asked != ranks.size())
    throw Error("the job has another number of ranks", ErrorKind::kUsage)
        .field(flag)
        .expected(fmt::format("{}, as many as the launcher started", ranks.size()))
        .found(std::to_string(asked));
}

void explain_end(const JobEnd& end) {
  if (end.code == 0 || end.code == kExplainedElsewhere || end.explained || end.interrupted) return;
  const std::string what =
      end.code > 128
          ? fmt::format("{} was ended by signal {}",
                        end.launcher_killed ? "the ranks' launcher" : "a rank", end.code - 128)
          : fmt::format("the ranks have ended (the launcher: exit code {})", end.code);
  say(fmt::format("octet: error: {}\n", what));
}

void end_job(MpiJob& job) {
  const Communicator& ranks = job.ranks();
  const size_t rank = ranks.rank();
  // Not by leaving, for which all ranks would have to come together.
  job.abort(explain_once(
      rank,
      rank == 0 ? "" : fmt::format("rank {} of {} on {}: ", rank, ranks.size(), host_name())));
}

void add_ranks_flag(const Verb& verb, size_t& ranks) {
  verb.integer("--tp,--tensor-parallel-size", ranks,
               "ranks on this host that share the work (mpirun starts them across hosts)")
      .range(1, 1024)
      .show_default();
}

void on_ranks(size_t count, const std::function<void(Communicator&)>& work) {
  if (count == 1 && !MpiJob::joined()) return work(*solo_communicator());
  on_job(count, [&](MpiJob& job) { work(job.ranks()); });
}

void on_job(size_t count, const std::function<void(MpiJob&)>& work) {
  if (!MpiJob::joined()) {
    OCTET_CHECK(count > 1);  // one rank would start itself for ever
    note_crowding(count);
    MpiJob::check_installed();
    const JobEnd end = Job(count, own_command(), Launcher::kMpirun).run();
    explain_end(end);
    if (end.code != 0) throw Exit{end.interrupted ? kInterrupted : end.code == 2 ? 2 : 1};
    return;
  }
  const bool follows = MpiJob::started_as() > 0;
  // Before there are other threads, so that none of them gets one. The first rank of a job that
  // a Job started gets a SIGINT when the user wants an end; the SIGTERM of mpirun means that
  // another rank has ended, which it is about to find out.
  sigset_t leave = job_signals();
  if (!follows) ::sigdelset(&leave, SIGINT);
  if (follows || in_job()) ::pthread_sigmask(SIG_BLOCK, &leave, nullptr);
  MpiJob job(kPatience);
  Communicator& ranks = job.ranks();
  try {
    if (!follows) lead_job();
    note_binding(ranks);
    check_count(count, ranks, "--tp");
    work(job);
  } catch (...) {
    end_job(job);
  }
}

}  // namespace octet::cli
