#include "src/dist/mpi_job.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/file.h"
#include "src/dist/cluster_communicator.h"
#include "src/dist/host_communicator.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_abi.h"
#include "src/dist/mpi_communicator.h"
#include "src/machine/topology.h"

namespace octet {
namespace {

constexpr double kFirstNotices = 1;  // seconds

const OctetMpi* load() {
  const fs::path beside = fs::read_symlink("/proc/self/exe").parent_path();
  for (const fs::path& path : {beside / "liboctet_mpi.so", beside / "../lib/liboctet_mpi.so"}) {
    if (!fs::exists(path)) continue;
    void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (library == nullptr)
      throw Error(fmt::format("MPI cannot be loaded: {}", ::dlerror()))
          .file(path.string())
          .remedy("install Open MPI (scripts/setup does)");
    const auto functions = reinterpret_cast<const OctetMpi* (*)()>(::dlsym(library, "octet_mpi"));
    if (functions == nullptr) throw Error("this is not Octet's face of MPI").file(path.string());
    return functions();
  }
  throw Error("more than one rank needs liboctet_mpi.so, which is not there")
      .file(beside.string())
      .remedy("build it with Open MPI installed (scripts/setup, scripts/build)");
}

// As the launcher says: Open MPI's, one with PMI, Slurm's srun. 0: it does not.
int ranks_started() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

// Parts the CPUs of a host among its ranks, unless who started them has. Whether they have fewer
// CPUs than threads.
bool share_cpus(Communicator& host) {
  std::vector<int32_t> ranks_of_cpu(CPU_SETSIZE);
  for (int cpu : allowed_cpus()) ranks_of_cpu[static_cast<size_t>(cpu)] = 1;
  host.meet();  // reading the topology takes its time
  host.sum(std::span(ranks_of_cpu));
  const int32_t ranks = static_cast<int32_t>(host.size());
  if (std::ranges::all_of(ranks_of_cpu, [&](int32_t n) { return n == 0 || n == ranks; }))
    keep_to_cores(host.rank(), host.size());
  share_cpu_time(host.size());
  int32_t threads = static_cast<int32_t>(default_thread_count());
  host.meet();
  host.sum(std::span(&threads, 1));
  host.throw_failure();
  const double cpus =
      static_cast<double>(std::ranges::count_if(ranks_of_cpu, [](int32_t n) { return n > 0; }));
  return threads > std::min(cpus, cgroup_cpu_limit().value_or(cpus));
}

}  // namespace

bool MpiJob::joined() {
  const int ranks = ranks_started();
  return ranks > 1 || (ranks == 0 && std::getenv("PMIX_RANK") != nullptr);
}

size_t MpiJob::started_as() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* value = std::getenv(name))
      return joined() ? static_cast<size_t>(std::max(0, std::atoi(value))) : 0;
  return 0;
}

void MpiJob::check_installed() { load(); }

MpiJob::MpiJob(double patience) : mpi_(load()) {
  int rank = 0, size = 1, host_rank = 0, host_size = 1;
  if (mpi_->start(&rank, &size) != 0 || mpi_->host(&host_rank, &host_size) != 0)
    throw Error("MPI cannot join the job that started this process");
  const size_t ranks = static_cast<size_t>(size);
  if (size < ranks_started())
    throw Error("MPI does not know the launcher that started this process")
        .expected(fmt::format("{} ranks", ranks_started()))
        .found(std::to_string(size))
        .remedy("start with mpirun, or with srun --mpi=pmix (srun --mpi=list says what it has)");
  // Rank 0 is to notice first, and tells: the others only do where it is what does not answer.
  if (rank != 0) patience += kFirstNotices;
  const auto by_mpi = [&](OctetMpiGroup group, int number, int count) {
    return std::make_unique<MpiCommunicator>(*mpi_, group, static_cast<size_t>(number),
                                             static_cast<size_t>(count), patience, given_up_);
  };
  int leader = 0, hosts = 1;
  if (mpi_->leaders(&leader, &hosts) != 0) throw Error("MPI cannot make a group of ranks");
  hosts_ = static_cast<size_t>(hosts);
  if (hosts_ == ranks) {
    ranks_ = by_mpi(kOctetMpiAll, rank, size);
    return;
  }
  const bool crowded = share_cpus(*by_mpi(kOctetMpiHost, host_rank, host_size));
  void* space = mpi_->share(SharedCollectives::bytes(static_cast<size_t>(host_size)));
  if (space == nullptr) throw Error("the ranks of this host have no memory to share");
  SharedCollectives shared(space, static_cast<size_t>(host_rank), static_cast<size_t>(host_size),
                           patience, crowded);
  if (hosts_ == 1)
    ranks_ = std::make_unique<HostCommunicator>(std::move(shared));
  else
    ranks_ = std::make_unique<ClusterCommunicator>(
        by_mpi(kOctetMpiAll, rank, size),
        leader < 0 ? nullptr : by_mpi(kOctetMpiLeaders, leader, hosts), std::move(shared));
}

MpiJob::~MpiJob() {
  if (!ranks_->failed()) mpi_->finish();
}

bool MpiJob::launcher_explains(std::chrono::milliseconds time) const {
  if (!in_job() || hosts_ == 1) return false;
  const auto end = std::chrono::steady_clock::now() + time;
  while (!given_up_ && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  return given_up_;
}

void MpiJob::sum_by_mpi(std::span<int32_t> values) {
  mpi_->sum_int32_now(kOctetMpiAll, values.data(), values.size());
}

void* MpiJob::share(size_t bytes) { return mpi_->share(bytes); }

void MpiJob::abort(int code) {
  mpi_->abort(code);
  ::_exit(code);
}

}  // namespace octet
