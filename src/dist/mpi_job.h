// The ranks of an MPI job, which mpirun, srun or an operator of Kubernetes started.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "src/dist/communicator.h"

struct OctetMpi;

namespace octet {

class MpiJob {
 public:
  // Whether this process was started as a rank of a job with more than one.
  static bool joined();
  // This process's rank, as the launcher says, before it has joined; 0 without a launcher. Ranks
  // above 0 leave all talking to that.
  static size_t started_as();

  // Throws Error when liboctet_mpi.so or MPI's own libraries are missing.
  static void check_installed();

  // Loads MPI and joins. `patience`: seconds that a rank may be late. Ranks of one host that may
  // all run on the same CPUs, as nobody has bound them, part these (keep_to_cores).
  explicit MpiJob(double patience);
  ~MpiJob();  // leaves the job, once all ranks do
  MpiJob(const MpiJob&) = delete;
  MpiJob& operator=(const MpiJob&) = delete;

  Communicator& ranks() { return *ranks_; }
  // For measuring what ranks() does: the sum by MPI's own means, and zeroed memory that the ranks
  // of a host share, until the job ends (null: none to have). Called by all ranks.
  void sum_by_mpi(std::span<int32_t> values);
  void* share(size_t bytes);
  // The launcher ends the job: whoever waits for a rank is to wait no more. Any thread.
  void give_up() { given_up_.store(true, std::memory_order_relaxed); }
  // Whether the launcher, too, sees within this time what has failed, and tells the user: it knows
  // which node it was, where this rank saw a connection end. On one host ranks see each other.
  bool launcher_explains(std::chrono::milliseconds time) const;
  // Ends every rank of the job, this one too.
  [[noreturn]] void abort(int code);

 private:
  const OctetMpi* mpi_;
  size_t hosts_ = 1;
  std::atomic<bool> given_up_{false};
  std::unique_ptr<Communicator> ranks_;
};

}  // namespace octet
