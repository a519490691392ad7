// Ranks for tests: threads of one process, in memory that all of them see.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "src/dist/host_communicator.h"

namespace octet::tests {

// Calls work(communicator) on `ranks` ranks at once.
inline void on_ranks(size_t ranks, const std::function<void(Communicator&)>& work) {
  const size_t bytes = SharedCollectives::bytes(ranks);
  const std::unique_ptr<void, void (*)(void*)> space(std::aligned_alloc(128, bytes), &std::free);
  std::fill_n(static_cast<char*>(space.get()), bytes, '\0');
  std::vector<std::thread> threads;
  for (size_t r = 0; r < ranks; ++r)
    threads.emplace_back([&, r] {
      HostCommunicator communicator(
          SharedCollectives(space.get(), r, ranks, /*patience=*/60, /*crowded=*/true));
      work(communicator);
    });
  for (std::thread& t : threads) t.join();
}

}  // namespace octet::tests
