// Starts the ranks of one model: on this host through mpirun, or on a Ray cluster through
// launch/ray, which has mpirun start them where Ray has reserved room.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "src/base/file.h"

namespace octet {

enum class Launcher { kMpirun, kRay };
// What SIGHUP does to a job: ends it, as other signals do, or goes on to the leading rank.
enum class HangUp { kEnds, kGoesOn };

struct JobEnd {
  int code = 0;                  // of the program: of the first rank that failed, 0 if none did
  bool explained = false;        // the user knows why (claim_error)
  bool interrupted = false;      // the user wanted it
  bool launcher_killed = false;  // by signal code - 128; else that was a rank's end
};

// `command` as `ranks` processes. One a program: SIGINT, SIGTERM and SIGHUP, which are to end the
// job, go on to mpirun, or as SIGINT to the rank that has called lead_job().
class Job {
 public:
  // Throws Error when there is no Ray.
  Job(size_t ranks, const std::vector<std::string>& command, Launcher launcher,
      HangUp hang_up = HangUp::kEnds);
  ~Job();
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;

  // Starts the ranks and waits for them. Throws Error when there is no mpirun. May be called again.
  JobEnd run();
  // Whether ranks of it have served (job_serves).
  bool has_served() const;
  // Waits. False, at once, when the job has been told to end.
  static bool pause(std::chrono::seconds time);

 private:
  std::vector<std::string> words_;
  fs::path folder_;  // that the ranks on this host see
};

// Whether a Job started this process.
bool in_job();
// Called in a rank that was started so. It takes the job's signals; it ends the others.
void lead_job();
// Before telling the user why the job ends: whether this rank is to, as no other has. Where there
// is no Job on this host, nobody knows.
enum class ErrorClaim { kMine, kOthers, kUnknown };
ErrorClaim claim_error();
// This rank answers clients from now on; and whether one did before the job was started again.
void job_serves();
bool job_has_served();

}  // namespace octet
