#include "src/dist/mpi_communicator.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

namespace octet {
namespace {

// Values that one call passes on, as MPI counts in int.
constexpr size_t kMost = size_t{1} << 24;
// Up to so many floats every rank gets all of them and adds them up itself.
constexpr size_t kOneShot = 4096;

}  // namespace

template <typename T, typename Work>
void MpiCommunicator::each(std::span<T> values, const Work& work) {
  for (size_t first = 0; first < values.size() && !failed(); first += kMost)
    work(values.subspan(first, std::min(kMost, values.size() - first)));
}

void MpiCommunicator::sum(std::span<int32_t> values) {
  each(values,
       [&](std::span<int32_t> piece) { wait(mpi_.sum_int32(group_, piece.data(), piece.size())); });
}

void MpiCommunicator::maximum(std::span<float> values) {
  each(values, [&](std::span<float> piece) {
    wait(mpi_.maximum_float(group_, piece.data(), piece.size()));
  });
}

void MpiCommunicator::sum(std::span<float> values) {
  each(values, [&](std::span<float> piece) {
    if (piece.size() <= kOneShot) {
      all_.resize(piece.size() * size_);
      if (!wait(mpi_.all_gather(group_, piece.data(), piece.size(), all_.data()))) return;
      add_up(piece);
      return;
    }
    std::vector<int> cuts;
    for (size_t r = 0; r <= size_; ++r) cuts.push_back(static_cast<int>(piece.size() * r / size_));
    const std::span<float> own = piece.subspan(static_cast<size_t>(cuts[rank_]),
                                               static_cast<size_t>(cuts[rank_ + 1] - cuts[rank_]));
    all_.resize(own.size() * size_);
    if (!wait(mpi_.all_to_all(group_, piece.data(), cuts.data(), all_.data()))) return;
    add_up(own);
    wait(mpi_.all_gather_parts(group_, piece.data(), cuts.data()));
  });
}

void MpiCommunicator::gather(std::span<const float> mine, std::span<const size_t> counts,
                             std::span<float> all) {
  std::vector<int> n;
  for (size_t c : counts) n.push_back(static_cast<int>(c));
  if (!failed()) wait(mpi_.gather_parts(group_, mine.data(), n.data(), all.data()));
}

void MpiCommunicator::all_gather(std::span<std::byte> all, std::span<const size_t> cuts) {
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
    if (!wait(mpi_.all_gather_bytes(group_, piece(rank_).data(), counts.data(), bytes_.data())))
      return;
    const std::byte* from = bytes_.data();
    for (size_t r = 0; r < size_; from += piece(r++).size())
      if (r != rank_) std::copy_n(from, piece(r).size(), piece(r).data());
  }
}

void MpiCommunicator::meet() {
  int32_t here = 1;
  if (!failed()) wait(mpi_.sum_int32(group_, &here, 1), true);
}

void MpiCommunicator::broadcast(std::vector<int32_t>& message) {
  int32_t count = static_cast<int32_t>(message.size());
  if (failed() || !wait(mpi_.broadcast(group_, &count, 1))) return;
  message.resize(static_cast<size_t>(count));
  if (count > 0) wait(mpi_.broadcast(group_, message.data(), message.size()));
}

// out = the sum over the ranks of all_ [size_, out.size()], in their order.
void MpiCommunicator::add_up(std::span<float> out) {
  std::copy_n(all_.data(), out.size(), out.data());
  for (size_t r = 1; r < size_; ++r)
    for (size_t i = 0; i < out.size(); ++i) out[i] += all_[r * out.size() + i];
}

// Until the request has ended; `patient`: however long that takes.
bool MpiCommunicator::wait(OctetMpiRequest* request, bool patient) {
  using Clock = std::chrono::steady_clock;
  const Clock::time_point begin = Clock::now();
  for (size_t turn = 0;; ++turn) {
    const int state = mpi_.done(request);
    if (state == 1) return true;
    if (state < 0) {
      fail(fmt::format("the connection to {} is lost", other()));
      return false;
    }
    if (turn < 20) continue;
    if (given_up_.load(std::memory_order_relaxed)) {
      fail("the launcher ends the job: another rank has ended, or it was told to");
      return false;
    }
    const double waited = std::chrono::duration<double>(Clock::now() - begin).count();
    if (!patient && waited > patience_) {
      fail(fmt::format("{} has not answered for {:.0f} s", other(), patience_));
      return false;
    }
    if (waited < 0.01)
      ::sched_yield();
    else
      std::this_thread::sleep_for(std::chrono::microseconds(waited < 0.05 ? 50 : 1000));
  }
}

}  // namespace octet
