// Collectives of ranks that see the same memory: processes of one host (or threads, in tests).
//
// Every rank has a segment with two slots, used in turn. An operation copies its values into its
// own slot, posts its number, waits until the others have posted theirs and reads their slots. A
// slot is written again two operations later, when every rank has posted the operation between and
// so has read it. Short vectors are added up by every rank; of long ones every rank adds a part,
// and all read the parts.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

namespace octet {

class SharedCollectives {
 public:
  // `space`: bytes(ranks) of zeroed memory that all ranks share, aligned to 128. `patience`:
  // seconds that a rank may be late. `crowded`: there are more busy threads than CPUs, waiting
  // yields.
  SharedCollectives(void* space, size_t rank, size_t ranks, double patience, bool crowded);
  static size_t bytes(size_t ranks);

  size_t rank() const { return rank_; }
  size_t ranks() const { return ranks_; }

  // As those of Communicator. False when a rank did not answer: then nothing more works, and
  // failure() says which.
  template <typename T>
  bool sum(std::span<T> values);
  bool maximum(std::span<float> values);
  bool gather(std::span<const float> mine, std::span<const size_t> counts, std::span<float> all);
  bool all_gather(std::span<std::byte> all, std::span<const size_t> cuts);
  bool meet();
  bool broadcast(std::vector<int32_t>& message);
  const std::string& failure() const { return failure_; }

 private:
  static constexpr size_t kLine = 128;
  static constexpr size_t kSlotBytes = 256 * 1024;
  static constexpr size_t kOneShotBytes = 64 * 1024;  // up to here every rank adds all
  struct alignas(kLine) Segment {
    std::atomic<uint32_t> posted;                 // operations begun; a futex
    alignas(kLine) std::atomic<uint32_t> summed;  // ... whose part is added up; a futex
    alignas(kLine) std::atomic<uint32_t> sleepers;
    std::atomic<int32_t> process;
    alignas(kLine) std::byte slot[2][kSlotBytes];
  };

  Segment& segment(size_t rank) const { return segments_[rank]; }
  std::byte* slot(size_t rank) const { return segment(rank).slot[operation_ & 1]; }
  bool begin();
  void post(std::atomic<uint32_t>& counter);
  // Until the rank's counter has reached the running operation.
  bool await(size_t rank, std::atomic<uint32_t> Segment::*counter, uint32_t operation,
             bool patient = false);
  bool gone(size_t rank) const;
  template <typename T, typename Add>
  bool reduce(std::span<T> values, Add add);

  Segment* segments_;
  size_t rank_, ranks_;
  double patience_;
  bool crowded_;
  uint32_t operation_ = 0;
  std::string failure_;
};

}  // namespace octet
