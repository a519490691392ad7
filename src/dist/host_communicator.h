// The communicator of ranks on one host.
#pragma once

#include "src/dist/communicator.h"
#include "src/dist/shared_collectives.h"

namespace octet {

class HostCommunicator final : public Communicator {
 public:
  explicit HostCommunicator(SharedCollectives shared) : shared_(std::move(shared)) {}
  size_t rank() const override { return shared_.rank(); }
  size_t size() const override { return shared_.ranks(); }
  size_t on_host() const override { return size(); }
  void sum(std::span<int32_t> values) override {
    keep([&] { return shared_.sum(values); });
  }
  void sum(std::span<float> values) override {
    keep([&] { return shared_.sum(values); });
  }
  void maximum(std::span<float> values) override {
    keep([&] { return shared_.maximum(values); });
  }
  void gather(std::span<const float> mine, std::span<const size_t> counts,
              std::span<float> all) override {
    keep([&] { return shared_.gather(mine, counts, all); });
  }
  void all_gather(std::span<std::byte> all, std::span<const size_t> cuts) override {
    keep([&] { return shared_.all_gather(all, cuts); });
  }
  void meet() override {
    keep([&] { return shared_.meet(); });
  }
  void broadcast(std::vector<int32_t>& message) override {
    keep([&] { return shared_.broadcast(message); });
  }

 private:
  template <typename Operation>
  void keep(const Operation& operation) {
    if (!failed() && !operation()) fail(shared_.failure());
  }

  SharedCollectives shared_;
};

}  // namespace octet
