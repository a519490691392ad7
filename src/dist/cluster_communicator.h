// The communicator of ranks on several hosts, some of which have more than one: what ranks add up
// passes the network once a host, between its first rank (its leader) and the others' leaders.
#pragma once

#include <memory>

#include "src/dist/mpi_communicator.h"
#include "src/dist/shared_collectives.h"

namespace octet {

class ClusterCommunicator final : public Communicator {
 public:
  // `leaders`: null on ranks that do not lead their host. Rank 0 is the first leader.
  ClusterCommunicator(std::unique_ptr<MpiCommunicator> all,
                      std::unique_ptr<MpiCommunicator> leaders, SharedCollectives host)
      : all_(std::move(all)), leaders_(std::move(leaders)), host_(std::move(host)) {}
  size_t rank() const override { return all_->rank(); }
  size_t size() const override { return all_->size(); }
  size_t on_host() const override { return host_.ranks(); }
  // Floats are added host by host, on each in the order of its ranks.
  void sum(std::span<int32_t> values) override { reduce(values, &MpiCommunicator::sum); }
  void sum(std::span<float> values) override { reduce(values, &MpiCommunicator::sum); }
  void maximum(std::span<float> values) override {
    by_steps([&] { return host_.maximum(values); }, [&] { leaders_->maximum(values); },
             [&] { return from_leader(values); });
  }
  void gather(std::span<const float> mine, std::span<const size_t> counts,
              std::span<float> all) override {
    among_all([&] { all_->gather(mine, counts, all); });
  }
  void all_gather(std::span<std::byte> all, std::span<const size_t> cuts) override {
    among_all([&] { all_->all_gather(all, cuts); });
  }
  void meet() override {
    among_all([&] { all_->meet(); });
  }
  void broadcast(std::vector<int32_t>& message) override {
    by_steps([] { return true; }, [&] { leaders_->broadcast(message); },
             [&] { return host_.broadcast(message); });
  }

 private:
  template <typename T>
  void reduce(std::span<T> values, void (MpiCommunicator::*between)(std::span<T>)) {
    by_steps([&] { return host_.sum(values); }, [&] { (leaders_.get()->*between)(values); },
             [&] { return from_leader(values); });
  }

  // The ranks of this host get their leader's values.
  template <typename T>
  bool from_leader(std::span<T> values) {
    std::vector<size_t> cuts(host_.ranks() + 1, values.size_bytes());
    cuts[0] = 0;
    return host_.all_gather(std::as_writable_bytes(values), cuts);
  }

  // On the host, between the leaders, on the host again.
  template <typename Before, typename Between, typename After>
  void by_steps(const Before& before, const Between& between, const After& after) {
    if (failed()) return;
    if (!before()) return lose_host();
    if (leaders_ != nullptr) {
      between();
      if (leaders_->failed()) return fail(leaders_->failure());
    }
    if (!after()) lose_host();
  }

  template <typename Operation>
  void among_all(const Operation& operation) {
    if (failed()) return;
    operation();
    if (all_->failed()) fail(all_->failure());
  }

  void lose_host() { fail("of the ranks on this host, " + host_.failure()); }

  std::unique_ptr<MpiCommunicator> all_, leaders_;
  SharedCollectives host_;
};

}  // namespace octet
