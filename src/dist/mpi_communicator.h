// The communicator of ranks that share no memory: MPI moves everything.
#pragma once

#include <atomic>
#include <vector>

#include "src/dist/communicator.h"
#include "src/dist/mpi_abi.h"

namespace octet {

class MpiCommunicator final : public Communicator {
 public:
  // The ranks of `group`, among which this one is number `rank` of `size`. `patience`: seconds that
  // a rank may be late. Once `given_up` is true, waiting is over.
  MpiCommunicator(const OctetMpi& mpi, OctetMpiGroup group, size_t rank, size_t size,
                  double patience, const std::atomic<bool>& given_up)
      : mpi_(mpi),
        group_(group),
        rank_(rank),
        size_(size),
        patience_(patience),
        given_up_(given_up) {}
  size_t rank() const override { return rank_; }
  size_t size() const override { return size_; }
  size_t on_host() const override { return group_ == kOctetMpiHost ? size_ : 1; }
  void sum(std::span<int32_t> values) override;
  void sum(std::span<float> values) override;
  void maximum(std::span<float> values) override;
  void gather(std::span<const float> mine, std::span<const size_t> counts,
              std::span<float> all) override;
  void all_gather(std::span<std::byte> all, std::span<const size_t> cuts) override;
  void meet() override;
  void broadcast(std::vector<int32_t>& message) override;

 private:
  template <typename T, typename Work>
  void each(std::span<T> values, const Work& work);
  void add_up(std::span<float> out);
  bool wait(OctetMpiRequest* request, bool patient = false);
  const char* other() const {
    return group_ == kOctetMpiLeaders ? "a rank on another host" : "another rank";
  }

  const OctetMpi& mpi_;
  OctetMpiGroup group_;
  size_t rank_, size_;
  double patience_;
  const std::atomic<bool>& given_up_;
  std::vector<float> all_;
  std::vector<std::byte> bytes_;
};

}  // namespace octet
