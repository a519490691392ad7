// Verbs that several ranks do together.
#pragma once

#include <signal.h>

#include <functional>
#include <string>
#include <vector>

#include "src/cli/flags.h"
#include "src/dist/communicator.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_job.h"

namespace octet::cli {

// SIGINT and SIGTERM: the first rank of a job obeys them, the others leave them to it.
sigset_t job_signals();
// The words of this process's own command line, the program by its full path.
std::vector<std::string> own_command();

// The exit code of a job when octet_ray, or a rank on another host, has told the user.
inline constexpr int kExplainedElsewhere = 3;
// Says why a job has ended, unless one of its processes has, or all is well.
void explain_end(const JobEnd& end);
// Says so when ranks outnumber this host's cores, and when they may use far fewer.
void note_crowding(size_t ranks);
void note_binding(const Communicator& ranks);
// explain_exception(), for whatever may befall several ranks at once: the first of them tells the
// user and ends the others, which wait for that. Returns the exit code of rank `rank`.
int explain_once(size_t rank, const std::string& who = "");
// Throws kUsage Error when `asked`, of the option `flag`, is neither 1 nor what the launcher
// started.
void check_count(size_t asked, const Communicator& ranks, const char* flag);
// In a catch block of a rank: tells the user what it was, unless the first rank does, and ends all
// ranks.
[[noreturn]] void end_job(MpiJob& job);

// --tp, for verbs that come to an end by themselves.
void add_ranks_flag(const Verb& verb, size_t& ranks);
// Calls work(ranks) on every rank: of the job that mpirun started, or of one that this starts with
// its own command line when `count` is above 1; else on the only one. What is thrown on a rank ends
// the job, after one message. Throws Exit when another process has said all.
void on_ranks(size_t count, const std::function<void(Communicator&)>& work);
// The same, always with a job: `count` is above 1, unless a launcher started this.
void on_job(size_t count, const std::function<void(MpiJob&)>& work);

}  // namespace octet::cli
