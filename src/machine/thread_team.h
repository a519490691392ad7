// The thread team: fixed workers that run one function together (SPMD), with barriers inside.
//
// A whole forward step is one run(): forking costs a store into each worker's own cache line, and
// the parts of a step are separated by barrier(), not by forks. Workers spin for a short while
// after a run (the next step follows at once while generating) and then sleep, so an idle server
// costs nothing. With fewer CPUs than threads they yield instead of spinning. No OpenMP: its
// passive mode costs ~47 us a region (measured, Zen 5), its active mode never sleeps.
#pragma once

#include <atomic>
#include <cstddef>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

namespace octet {

class ThreadTeam;

// One thread's view of a run.
class Worker {
 public:
  size_t id() const { return id_; }
  size_t count() const { return count_; }
  void barrier();  // all workers of the run must call it
  // This worker's share of [0, n), cut at multiples of `grain`; empty when there are too few.
  std::pair<size_t, size_t> share(size_t n, size_t grain = 1) const;

 private:
  friend class ThreadTeam;
  Worker(ThreadTeam* team, size_t id, size_t count) : team_(team), id_(id), count_(count) {}
  ThreadTeam* team_;
  size_t id_, count_;
};

class ThreadTeam {
 public:
  // `threads` including the caller; 0 = default_thread_count(). Workers other than the caller are
  // pinned to one CPU each unless there are fewer CPUs than threads.
  explicit ThreadTeam(size_t threads = 0);
  ~ThreadTeam();
  ThreadTeam(const ThreadTeam&) = delete;
  ThreadTeam& operator=(const ThreadTeam&) = delete;

  size_t size() const { return count_; }
  // Runs fn on every worker (the caller is worker 0) and returns when all are done. Not reentrant;
  // one caller at a time. What one of them throws, the first if several do, reaches the caller; the
  // others end at their next barrier, so what they computed is then in no known state.
  void run(const std::function<void(Worker&)>& fn);
  // Pins the calling thread to worker 0's CPU: for a thread that does nothing else (the engine's).
  void pin_caller() const;

 private:
  friend class Worker;
  static constexpr size_t kLine = 128;  // two lines: the prefetcher fetches pairs
  struct alignas(kLine) Slot {
    std::atomic<uint32_t> epoch{0};  // written by the caller only; matches wait in loop()
    alignas(kLine) std::atomic<uint32_t> done{0};  // written by the worker only; polled by run()
  };

  struct Abandoned {};  // thrown by barriers when another worker has failed

  void loop(size_t id);
  void run_one(size_t id) noexcept;
  void barrier();
  void pause_or_yield(uint32_t& spins) const;

  size_t count_;
  bool oversubscribed_ = false;
  std::vector<int> cpus_;
  std::unique_ptr<Slot[]> slots_;
  std::vector<std::thread> threads_;
  const std::function<void(Worker&)>* fn_ = nullptr;
  uint32_t epoch_ = 0;
  std::atomic<bool> stop_{false};
  std::mutex error_mutex_;
  std::exception_ptr error_;         // the first of this run
  std::atomic<bool> failed_{false};  // in this run
  alignas(kLine) std::atomic<uint32_t> arrived_{0};
  alignas(kLine) std::atomic<uint32_t> phase_{0};
};

inline void Worker::barrier() {
  if (count_ > 1) team_->barrier();
}

}  // namespace octet
