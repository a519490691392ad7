// Starts the ranks of one model: on this host through mpirun, or on a Ray cluster through
// launch/ray, which has mpirun start them where Ray has reserved room.
#pragma once

#include <string>
#include <vector>

namespace octet {

// Runs `command` as `ranks` processes and waits for them. SIGINT, SIGTERM and SIGHUP go on to
// mpirun, or as SIGINT to the rank that has called lead_job().
// Returns the exit code of the program: that of the first rank that failed, 0 if none did. `said`:
// whether a rank has told the user why (report_end). Throws Error when there is no mpirun, or no Ray.
struct JobEnd {
  int code = 0;
  bool said = false;
};
enum class Launcher { kMpirun, kRay };
JobEnd run_job(size_t ranks, const std::vector<std::string>& command, Launcher launcher);

// Whether run_job() started this process.
bool in_job();
// Called in a rank that was started so. It takes the job's signals; it ends the others.
void lead_job();
// The user knows why the job ends.
void report_end();

// Restricts a rank that run_job() started to its part of this host's cores: the first of `ranks`
// gets the first cores, and so on, neighbours in the order of NUMA nodes. Elsewhere whoever started
// the ranks has placed them.
void take_cores(size_t rank_on_host, size_t ranks_on_host);

}  // namespace octet
