// The serving engine: one thread that owns scheduler, KV pages and model.
//
// Callers hand it requests through a bounded queue and get outputs through their sink, called on
// the engine's thread. Every step (step.h) it computes what the scheduler decides: the running
// sequences' next tokens mixed with chunks of prompts (continuous batching, chunked prefill) within
// a budget of tokens, so a long prompt never stalls the others. A preempted sequence is computed
// again later, with the same result.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "src/engine/observer.h"
#include "src/engine/request.h"
#include "src/engine/scheduler.h"
#include "src/engine/step.h"
#include "src/model/kv_cache.h"
#include "src/model/transformer.h"
#include "src/text/tokenizer.h"

namespace octet {

struct EngineOptions {
  size_t max_sequences = 128;       // running at once
  size_t max_batched_tokens = 512;  // of one step; at most the model's max_rows
  size_t max_queue = 4096;          // requests waiting; more are refused
  size_t max_model_len = 2048;      // prompt + output tokens of a request
  size_t kv_blocks = 0;             // pages; at least blocks_for(max_model_len)
  kernels::FloatType kv_type = kernels::FloatType::kBF16;
  std::vector<int32_t> eos_ids;  // the first is the tokenizer's: to end with it needs no reason
  // Called once, on the engine's thread, when another rank is lost: every request has ended with
  // an error then, and no more are taken.
  std::function<void(const std::string& why)> on_lost_rank;
};

struct EngineStats {
  size_t running = 0, waiting = 0;
  double kv_usage = 0;  // 0..1
  uint64_t prompt_tokens = 0, generation_tokens = 0, preemptions = 0;
};

class Engine {
 public:
  // Starts the thread. Model, tokenizer and observer must outlive it. `tokenizer` may be null: then
  // outputs have no text and stop strings are refused.
  Engine(Transformer& model, const text::Tokenizer* tokenizer, EngineOptions options,
         EngineObserver* observer = nullptr);
  ~Engine();  // aborts what runs
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Queues a request. Throws RequestError for what can never run (empty prompt, ids outside the
  // vocabulary, too long); returns nothing when the queue is full. Any thread.
  std::optional<RequestId> submit(Request request);
  // Ends a request with kAbort at the next step; unknown ids (already finished) are ignored.
  void abort(RequestId id);

  EngineStats stats() const;
  const EngineOptions& options() const { return options_; }
  // Whether it can still work: not after another rank is lost.
  bool alive() const { return !lost_.load(); }
  // Seconds since the engine's loop last went round: large only when a step hangs.
  double seconds_since_heartbeat() const;
  // Ends all that run or wait with an error. Any thread; does not wait.
  void fail_all(const std::string& why);
  // Waits until nothing runs or waits, at most `seconds`; then aborts the rest and waits for that.
  // Not from a sink.
  void drain(double seconds);

 private:
  void loop();
  void take_commands(std::unique_lock<std::mutex>& lock);
  void take_submitted();  // under the lock
  void run(const Step& step);
  void send(Sequence& sequence, RequestOutput output);
  void finish(Sequence& sequence, FinishReason reason, const std::string& error = "");
  void finish_all(FinishReason reason, const std::string& error = "");
  void publish_stats();
  void stop_without_ranks(const std::string& why);

  Transformer& model_;
  const text::Tokenizer* tokenizer_;
  EngineOptions options_;
  EngineObserver* observer_;
  KvCache cache_;

  // Owned by the engine's thread.
  Scheduler scheduler_;
  StepRunner steps_;
  uint64_t prompt_tokens_ = 0, generation_tokens_ = 0;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable wake_, idle_;
  std::deque<std::unique_ptr<Sequence>> submitted_;
  std::vector<RequestId> aborts_;
  bool abort_all_ = false;
  std::string failure_of_all_;  // empty: none
  RequestId next_id_ = 1;
  EngineStats stats_;
  bool stop_ = false;

  std::atomic<int64_t> heartbeat_{0};  // steady_clock ticks; written by the loop, read by /health
  std::atomic<bool> sleeping_{false}, lost_{false};
  std::thread thread_;
};

}  // namespace octet
