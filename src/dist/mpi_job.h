// The ranks of an MPI job, which mpirun, srun or an operator of Kubernetes started.
#pragma once

#include <atomic>
#include <chrono>
#include <memory>

#include "src/dist/communicator.h"

struct OctetMpi;

namespace octet {

class MpiJob {
 public:
  struct Options {
    double patience = 5;  // seconds that a rank may be late
    size_t threads = 1;   // of every rank: more busy threads than CPUs make waiting yield
  };

  // Whether this process was started as a rank of a job with more than one.
  static bool joined();
  // ... as one that is not rank 0: it leaves all talking to that.
  static bool follows();

  // Loads MPI and joins. Throws Error when liboctet_mpi.so or MPI's own libraries are missing.
  explicit MpiJob(const Options& options);
  ~MpiJob();  // leaves the job, once all ranks do
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

  Communicator& ranks() { return *ranks_; }
  size_t ranks_on_host() const { return host_size_; }
  size_t rank_on_host() const { return host_rank_; }
  // The launcher ends the job: whoever waits for a rank is to wait no more. Any thread.
  void give_up() { given_up_.store(true, std::memory_order_relaxed); }
  // Whether the launcher, too, sees within this time what has failed, and tells the user: it knows
  // which node it was, where this rank saw a connection end. On one host ranks see each other.
  bool launcher_explains(std::chrono::milliseconds time) const;
  // Ends every rank of the job, this one too.
  [[noreturn]] void abort(int code);

 private:
  const OctetMpi* mpi_;
  size_t host_rank_ = 0, host_size_ = 1, hosts_ = 1;
  std::atomic<bool> given_up_{false};
  std::unique_ptr<Communicator> ranks_;
};

}  // namespace octet
