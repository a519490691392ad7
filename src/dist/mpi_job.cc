#include "src/dist/mpi_job.h"

#include <dlfcn.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <thread>

#include "src/base/file.h"
#include "src/dist/host_communicator.h"
#include "src/dist/mpi_abi.h"
#include "src/machine/topology.h"

namespace octet {
namespace {

// Values that one call passes on, as MPI counts in int.
constexpr size_t kMost = size_t{1} << 24;
// Up to so many floats every rank gets all of them and adds them up itself.
constexpr size_t kOneShot = 4096;

// Between hosts: MPI moves everything. Waiting lets others run, and sleeps after a while.
class MpiCommunicator final : public Communicator {
 public:
  // `given_up`: waiting is over.
  MpiCommunicator(const OctetMpi& mpi, size_t rank, size_t size, double patience,
                  const std::atomic<bool>& given_up)
      : mpi_(mpi), rank_(rank), size_(size), patience_(patience), given_up_(given_up) {}
  size_t rank() const override { return rank_; }
  size_t size() const override { return size_; }

  void sum(std::span<int32_t> values) override {
    each(values,
         [&](std::span<int32_t> piece) { wait(mpi_.sum_int32(piece.data(), piece.size())); });
  }

  void maximum(std::span<float> values) override {
    each(values,
         [&](std::span<float> piece) { wait(mpi_.maximum_float(piece.data(), piece.size())); });
  }

  void sum(std::span<float> values) override {
    each(values, [&](std::span<float> piece) {
      if (piece.size() <= kOneShot) {
        all_.resize(piece.size() * size_);
        if (!wait(mpi_.all_gather(piece.data(), piece.size(), all_.data()))) return;
        add_up(piece);
        return;
      }
      std::vector<int> cuts;
      for (size_t r = 0; r <= size_; ++r)
        cuts.push_back(static_cast<int>(piece.size() * r / size_));
      const std::span<float> own = piece.subspan(
          static_cast<size_t>(cuts[rank_]), static_cast<size_t>(cuts[rank_ + 1] - cuts[rank_]));
      all_.resize(own.size() * size_);
      if (!wait(mpi_.all_to_all(piece.data(), cuts.data(), all_.data()))) return;
      add_up(own);
      wait(mpi_.all_gather_parts(piece.data(), cuts.data()));
    });
  }

  void gather(std::span<const float> mine, std::span<const size_t> counts,
              std::span<float> all) override {
    std::vector<int> n;
    for (size_t c : counts) n.push_back(static_cast<int>(c));
    if (!failed()) wait(mpi_.gather_parts(mine.data(), n.data(), all.data()));
  }

  void all_gather(std::span<std::byte> all, std::span<const size_t> cuts) override {
    size_t longest = 0;
    for (size_t r = 0; r < size_; ++r) longest = std::max(longest, cuts[r + 1] - cuts[r]);
    for (size_t first = 0; first < longest && !failed(); first += kMost) {
      // The piece of every part that passes now, one after the other in bytes_.
      const auto piece = [&](size_t r) {
        const std::span<std::byte> part = all.subspan(cuts[r], cuts[r + 1] - cuts[r]);
        const size_t begin = std::min(first, part.size());
        return part.subspan(begin, std::min(kMost, part.size() - begin));
      };
      std::vector<int> counts;
      size_t total = 0;
      for (size_t r = 0; r < size_; total += piece(r++).size())
        counts.push_back(static_cast<int>(piece(r).size()));
      bytes_.resize(total);
      if (!wait(mpi_.all_gather_bytes(piece(rank_).data(), counts.data(), bytes_.data()))) return;
      const std::byte* from = bytes_.data();
      for (size_t r = 0; r < size_; from += piece(r++).size())
        if (r != rank_) std::copy_n(from, piece(r).size(), piece(r).data());
    }
  }

  void meet() override {
    int32_t here = 1;
    if (!failed()) wait(mpi_.sum_int32(&here, 1), true);
  }

  void broadcast(std::vector<int32_t>& message) override {
    int32_t count = static_cast<int32_t>(message.size());
    if (failed() || !wait(mpi_.broadcast(&count, 1))) return;
    message.resize(static_cast<size_t>(count));
    if (count > 0) wait(mpi_.broadcast(message.data(), message.size()));
  }

 private:
  template <typename T, typename Work>
  void each(std::span<T> values, const Work& work) {
    for (size_t first = 0; first < values.size() && !failed(); first += kMost)
      work(values.subspan(first, std::min(kMost, values.size() - first)));
  }

  // out = the sum over the ranks of all_ [size_, out.size()], in their order.
  void add_up(std::span<float> out) {
    std::copy_n(all_.data(), out.size(), out.data());
    for (size_t r = 1; r < size_; ++r)
      for (size_t i = 0; i < out.size(); ++i) out[i] += all_[r * out.size() + i];
  }

  // Until the request has ended; `patient`: however long that takes.
  bool wait(OctetMpiRequest* request, bool patient = false) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point begin = Clock::now();
    for (size_t turn = 0;; ++turn) {
      const int state = mpi_.done(request);
      if (state == 1) return true;
      if (state < 0) {
        fail("the connection to another rank is lost");
        return false;
      }
      if (turn < 200) continue;
      if (given_up_.load(std::memory_order_relaxed)) {
        fail("the launcher ends the job: another rank has ended, or it was told to");
        return false;
      }
      const double waited = std::chrono::duration<double>(Clock::now() - begin).count();
      if (!patient && waited > patience_) {
        fail(fmt::format("a rank has not answered for {:.0f} s", patience_));
        return false;
      }
      if (waited < 0.01)
        ::sched_yield();
      else
        std::this_thread::sleep_for(std::chrono::microseconds(waited < 1 ? 50 : 500));
    }
  }

  const OctetMpi& mpi_;
  size_t rank_, size_;
  double patience_;
  const std::atomic<bool>& given_up_;
  std::vector<float> all_;
  std::vector<std::byte> bytes_;
};

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

}  // namespace

bool MpiJob::joined() { return ranks_started() > 1 || std::getenv("PMIX_RANK") != nullptr; }

bool MpiJob::follows() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"})
    if (const char* value = std::getenv(name)) return std::atoi(value) > 0;
  return false;
}

MpiJob::MpiJob(const Options& options) : mpi_(load()) {
  int rank = 0, size = 1, host_rank = 0, host_size = 1;
  if (mpi_->start(&rank, &size) != 0 || mpi_->host(&host_rank, &host_size) != 0)
    throw Error("MPI cannot join the job that started this process");
  host_rank_ = static_cast<size_t>(host_rank);
  host_size_ = static_cast<size_t>(host_size);
  const size_t ranks = static_cast<size_t>(size);
  if (size < ranks_started())
    throw Error("MPI does not know the launcher that started this process")
        .expected(fmt::format("{} ranks", ranks_started()))
        .found(std::to_string(size))
        .remedy("start with mpirun, or with srun --mpi=pmix (srun --mpi=list says what it has)");
  // Rank 0 is to notice first, and tells: the others only end where it is not there any more.
  const double patience = rank == 0 ? options.patience : 4 * options.patience;
  if (host_size_ < ranks) {
    ranks_ = std::make_unique<MpiCommunicator>(*mpi_, static_cast<size_t>(rank), ranks, patience,
                                               given_up_);
    return;
  }
  void* space = mpi_->share(SharedCollectives::bytes(ranks));
  if (space == nullptr) throw Error("the ranks of this host have no memory to share");
  const bool crowded = ranks * options.threads > allowed_cpus().size();
  ranks_ = std::make_unique<HostCommunicator>(space, static_cast<size_t>(rank), ranks, patience,
                                              crowded);
}

MpiJob::~MpiJob() {
  if (!ranks_->failed()) mpi_->finish();
}

void MpiJob::abort(int code) {
  mpi_->abort(code);
  ::_exit(code);
}

}  // namespace octet
