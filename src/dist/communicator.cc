#include "src/dist/communicator.h"

#include <algorithm>

namespace octet {
namespace {

class Solo final : public Communicator {
 public:
  size_t rank() const override { return 0; }
  size_t size() const override { return 1; }
  size_t on_host() const override { return 1; }
  void sum(std::span<int32_t>) override {}
  void sum(std::span<float>) override {}
  void maximum(std::span<float>) override {}
  void gather(std::span<const float> mine, std::span<const size_t>, std::span<float> all) override {
    std::copy(mine.begin(), mine.end(), all.begin());
  }
  void all_gather(std::span<std::byte>, std::span<const size_t>) override {}
  void meet() override {}
  void broadcast(std::vector<int32_t>&) override {}
};

}  // namespace

std::unique_ptr<Communicator> solo_communicator() { return std::make_unique<Solo>(); }

}  // namespace octet
