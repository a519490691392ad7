#include "src/machine/thread_team.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/machine/cpu.h"
#include "src/machine/topology.h"

namespace octet {
namespace {

constexpr uint32_t kSpins = 20000;  // about 100 us of `pause`: longer than a step's serial part

void pin(pthread_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(cpu), &set);
  ::pthread_setaffinity_np(thread, sizeof set, &set);  // best effort: a sandbox may forbid it
}

}  // namespace

std::pair<size_t, size_t> Worker::share(size_t n, size_t grain) const {
  const size_t units = (n + grain - 1) / grain;
  const size_t begin = units * id_ / count_ * grain;
  const size_t end = units * (id_ + 1) / count_ * grain;
  return {std::min(begin, n), std::min(end, n)};
}

ThreadTeam::ThreadTeam(size_t threads)
    : count_(threads == 0 ? default_thread_count() : threads), cpus_(allowed_cpus()) {
  const auto share = cpu_share();
  oversubscribed_ =
      count_ > cpus_.size() || (share && static_cast<double>(count_) > *share + 0.999);
  slots_ = std::make_unique<Slot[]>(count_);
  for (size_t id = 1; id < count_; ++id) {
    threads_.emplace_back([this, id] { loop(id); });
    if (!oversubscribed_) pin(threads_.back().native_handle(), cpus_[id]);
    ::pthread_setname_np(threads_.back().native_handle(), "octet-worker");
  }
}

ThreadTeam::~ThreadTeam() {
  stop_.store(true, std::memory_order_relaxed);
  for (size_t id = 1; id < count_; ++id) {
    slots_[id].epoch.fetch_add(1, std::memory_order_release);
    slots_[id].epoch.notify_one();
  }
  for (std::thread& t : threads_) t.join();
}

void ThreadTeam::pin_caller() const {
  if (!oversubscribed_) pin(::pthread_self(), cpus_[0]);
}

void ThreadTeam::pause_or_yield(uint32_t& spins) const {
  ++spins;
  if (oversubscribed_ || spins > kSpins)
    ::sched_yield();
  else
    pause_briefly();
}

void ThreadTeam::run(const std::function<void(Worker&)>& fn) {
  fn_ = &fn;
  ++epoch_;
  for (size_t id = 1; id < count_; ++id) {
    slots_[id].epoch.store(epoch_, std::memory_order_release);  // pairs with loop()'s acquire
    slots_[id].epoch.notify_one();
  }
  run_one(0);
  for (size_t id = 1; id < count_; ++id) {
    uint32_t spins = 0;
    while (slots_[id].done.load(std::memory_order_acquire) != epoch_) pause_or_yield(spins);
  }
  fn_ = nullptr;
  if (!failed_.load(std::memory_order_acquire)) return;
  failed_.store(false, std::memory_order_relaxed);
  arrived_.store(0, std::memory_order_relaxed);  // of the barrier that not all have reached
  std::rethrow_exception(std::exchange(error_, nullptr));
}

void ThreadTeam::run_one(size_t id) noexcept {
  Worker self(this, id, count_);
  try {
    (*fn_)(self);
  } catch (const Abandoned&) {
  } catch (...) {
    const std::lock_guard lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
    failed_.store(true, std::memory_order_release);
  }
}

void ThreadTeam::loop(size_t id) {
  uint32_t seen = 0;
  while (true) {
    Slot& slot = slots_[id];
    uint32_t epoch = slot.epoch.load(std::memory_order_acquire);  // pairs with run()'s release
    for (uint32_t spins = 0; epoch == seen && spins < kSpins && !oversubscribed_; ++spins) {
      pause_briefly();
      epoch = slot.epoch.load(std::memory_order_acquire);
    }
    if (epoch == seen) {
      slot.epoch.wait(seen, std::memory_order_acquire);
      continue;
    }
    if (stop_.load(std::memory_order_relaxed)) return;
    seen = epoch;
    run_one(id);
    slot.done.store(epoch, std::memory_order_release);  // pairs with run()'s acquire
  }
}

void ThreadTeam::barrier() {
  const uint32_t phase = phase_.load(std::memory_order_relaxed);
  // acq_rel: the last to arrive has seen what the others wrote before they arrived.
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == count_) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);  // pairs with the acquire below
    return;
  }
  uint32_t spins = 0;
  while (phase_.load(std::memory_order_acquire) == phase) {
    if (failed_.load(std::memory_order_acquire)) throw Abandoned();
    pause_or_yield(spins);
  }
}

}  // namespace octet
