#include "src/dist/shared_collectives.h"

#include <fmt/format.h>
#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

#include "src/machine/cpu.h"

namespace octet {
namespace {

using Clock = std::chrono::steady_clock;

static_assert(std::atomic<uint32_t>::is_always_lock_free);

// Until the word is not `value` any more, or a moment has passed.
void sleep_on(std::atomic<uint32_t>& word, uint32_t value) {
  const timespec moment = {0, 50'000'000};
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAIT, value, &moment, nullptr, 0);
}

void wake_all(std::atomic<uint32_t>& word) {
  ::syscall(SYS_futex, reinterpret_cast<uint32_t*>(&word), FUTEX_WAKE, INT32_MAX, nullptr, nullptr,
            0);
}

// Numbers of operations wrap around.
bool reached(uint32_t counter, uint32_t operation) {
  return static_cast<int32_t>(counter - operation) >= 0;
}

}  // namespace

SharedCollectives::SharedCollectives(void* space, size_t rank, size_t ranks, double patience,
                                     bool crowded)
    : segments_(static_cast<Segment*>(space)),
      rank_(rank),
      ranks_(ranks),
      patience_(patience),
      crowded_(crowded) {
  segment(rank_).process.store(::getpid());
}

size_t SharedCollectives::bytes(size_t ranks) { return ranks * sizeof(Segment); }

bool SharedCollectives::gone(size_t rank) const {
  const int process = segment(rank).process.load();
  return process != 0 && ::kill(process, 0) != 0 && errno == ESRCH;
}

void SharedCollectives::post(std::atomic<uint32_t>& counter) {
  counter.store(operation_);
  if (segment(rank_).sleepers.load() > 0) wake_all(counter);
}

bool SharedCollectives::await(size_t rank, std::atomic<uint32_t> Segment::*counter,
                              uint32_t operation, bool patient) {
  std::atomic<uint32_t>& c = segment(rank).*counter;
  // About as long as a layer takes while tokens are generated.
  for (size_t spins = crowded_ ? 50 : 20'000; spins > 0; --spins) {
    if (reached(c.load(std::memory_order_acquire), operation)) return true;
    pause_briefly();
  }
  const Clock::time_point begin = Clock::now();
  while (true) {
    segment(rank).sleepers.fetch_add(1);
    const uint32_t value = c.load();
    if (!reached(value, operation)) sleep_on(c, value);
    segment(rank).sleepers.fetch_sub(1);
    if (reached(c.load(), operation)) return true;
    if (gone(rank)) {
      failure_ = fmt::format("rank {} of {} (process {}) has ended", rank, ranks_,
                             segment(rank).process.load());
      return false;
    }
    const double waited = std::chrono::duration<double>(Clock::now() - begin).count();
    if (!patient && waited > patience_) {
      failure_ = fmt::format("rank {} of {} (process {}) has not answered for {:.0f} s", rank,
                             ranks_, segment(rank).process.load(), patience_);
      return false;
    }
  }
}

// The next operation; true when its slot may be written.
bool SharedCollectives::begin() {
  // Operations without parts do not count here: their number must not fall behind by 2^31.
  segment(rank_).summed.store(operation_, std::memory_order_relaxed);
  ++operation_;
  for (size_t r = 0; r < ranks_; ++r)
    if (r != rank_ && !await(r, &Segment::posted, operation_ - 1)) return false;
  return true;
}

template <typename T, typename Add>
bool SharedCollectives::reduce(std::span<T> values, Add add) {
  constexpr size_t kMost = kSlotBytes / sizeof(T);
  if (ranks_ == 1) return true;
  for (size_t first = 0; first < values.size(); first += kMost) {
    const std::span<T> piece = values.subspan(first, std::min(kMost, values.size() - first));
    const auto of = [&](size_t r) { return reinterpret_cast<T*>(slot(r)); };
    const auto add_up = [&](size_t from, size_t to, T* out) {
      const T *a = of(0) + from, *b = of(1) + from;
      for (size_t i = 0; i < to - from; ++i) out[i] = add(a[i], b[i]);
      for (size_t r = 2; r < ranks_; ++r) {
        const T* other = of(r) + from;
        for (size_t i = 0; i < to - from; ++i) out[i] = add(out[i], other[i]);
      }
    };
    if (!begin()) return false;
    std::copy(piece.begin(), piece.end(), of(rank_));
    post(segment(rank_).posted);
    for (size_t r = 0; r < ranks_; ++r)
      if (r != rank_ && !await(r, &Segment::posted, operation_)) return false;
    if (piece.size_bytes() <= kOneShotBytes) {
      add_up(0, piece.size(), piece.data());
      continue;
    }
    // The share of a rank, in cache lines, is added up in its slot, where nobody else reads it.
    const auto cut = [&](size_t r) {
      constexpr size_t kUnit = kLine / sizeof(T);
      return std::min(piece.size(), (piece.size() + kUnit - 1) / kUnit * r / ranks_ * kUnit);
    };
    add_up(cut(rank_), cut(rank_ + 1), piece.data() + cut(rank_));
    std::copy(piece.data() + cut(rank_), piece.data() + cut(rank_ + 1), of(rank_) + cut(rank_));
    post(segment(rank_).summed);
    for (size_t r = 0; r < ranks_; ++r) {
      if (r == rank_) continue;
      if (!await(r, &Segment::summed, operation_)) return false;
      std::copy(of(r) + cut(r), of(r) + cut(r + 1), piece.data() + cut(r));
    }
  }
  return true;
}

template <typename T>
bool SharedCollectives::sum(std::span<T> values) {
  return reduce(values, [](T a, T b) {
    if constexpr (std::is_same_v<T, int32_t>)  // modulo 2^32, as the accumulators wrap
      return static_cast<int32_t>(static_cast<uint32_t>(a) + static_cast<uint32_t>(b));
    else
      return a + b;
  });
}
template bool SharedCollectives::sum(std::span<int32_t>);
template bool SharedCollectives::sum(std::span<float>);

bool SharedCollectives::maximum(std::span<float> values) {
  return reduce(values, [](float a, float b) { return a > b ? a : b; });
}

bool SharedCollectives::gather(std::span<const float> mine, std::span<const size_t> counts,
                               std::span<float> all) {
  constexpr size_t kMost = kSlotBytes / sizeof(float);
  const size_t longest = *std::max_element(counts.begin(), counts.end());
  for (size_t first = 0; first < longest; first += kMost) {
    const auto share = [&](size_t r) {
      return counts[r] > first ? std::min(kMost, counts[r] - first) : 0;
    };
    if (!begin()) return false;
    if (rank_ != 0)
      std::copy_n(mine.data() + first, share(rank_), reinterpret_cast<float*>(slot(rank_)));
    post(segment(rank_).posted);
    if (rank_ != 0) continue;
    float* out = all.data();
    for (size_t r = 0; r < ranks_; out += counts[r++]) {
      if (r != 0 && !await(r, &Segment::posted, operation_)) return false;
      const float* from = r == 0 ? mine.data() + first : reinterpret_cast<const float*>(slot(r));
      std::copy_n(from, share(r), out + first);
    }
  }
  return true;
}

bool SharedCollectives::all_gather(std::span<std::byte> all, std::span<const size_t> cuts) {
  if (ranks_ == 1) return true;
  size_t longest = 0;
  for (size_t r = 0; r < ranks_; ++r) longest = std::max(longest, cuts[r + 1] - cuts[r]);
  for (size_t first = 0; first < longest; first += kSlotBytes) {
    // The piece of every part that passes now.
    const auto piece = [&](size_t r) {
      const std::span<std::byte> part = all.subspan(cuts[r], cuts[r + 1] - cuts[r]);
      const size_t begin = std::min(first, part.size());
      return part.subspan(begin, std::min(kSlotBytes, part.size() - begin));
    };
    if (!begin()) return false;
    std::ranges::copy(piece(rank_), slot(rank_));
    post(segment(rank_).posted);
    for (size_t r = 0; r < ranks_; ++r) {
      if (r == rank_) continue;
      if (!await(r, &Segment::posted, operation_)) return false;
      std::copy_n(slot(r), piece(r).size(), piece(r).data());
    }
  }
  return true;
}

bool SharedCollectives::meet() {
  if (!begin()) return false;
  post(segment(rank_).posted);
  for (size_t r = 0; r < ranks_; ++r)
    if (r != rank_ && !await(r, &Segment::posted, operation_, true)) return false;
  return true;
}

bool SharedCollectives::broadcast(std::vector<int32_t>& message) {
  // In rank 0's slot: how many values are left, and those of them that pass now.
  constexpr size_t kMost = kSlotBytes / sizeof(int32_t) - 1;
  size_t left = message.size(), first = 0;
  do {
    if (rank_ == 0) {
      if (!begin()) return false;
      const size_t count = std::min(kMost, left);
      int32_t* values = reinterpret_cast<int32_t*>(slot(0));
      values[0] = static_cast<int32_t>(left);
      std::copy_n(message.data() + first, count, values + 1);
      post(segment(0).posted);
      first += count;
      left -= count;
    } else {
      ++operation_;
      post(segment(rank_).posted);
      if (!await(0, &Segment::posted, operation_)) return false;
      const int32_t* values = reinterpret_cast<const int32_t*>(slot(0));
      left = static_cast<size_t>(values[0]);
      const size_t count = std::min(kMost, left);
      message.resize(first + count);
      std::copy_n(values + 1, count, message.data() + first);
      first += count;
      left -= count;
    }
  } while (left > 0);
  return true;
}

}  // namespace octet
