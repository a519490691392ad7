#include "src/engine/engine.h"

#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "src/base/error.h"
#include "src/engine/refusal.h"

namespace octet {
namespace {

// While nothing runs, the other ranks are asked this often whether they are there.
constexpr auto kPingInterval = std::chrono::milliseconds(250);

double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

Engine::Engine(Transformer& model, const text::Tokenizer* tokenizer, EngineOptions options,
               EngineObserver* observer)
    : model_(model),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      observer_(observer),
      cache_(model.shape(), options_.kv_blocks, options_.kv_type),
      scheduler_(options_.max_sequences, options_.max_batched_tokens, cache_),
      steps_(model, cache_, options_.eos_ids, observer) {
  OCTET_CHECK(options_.kv_blocks >= blocks_for(options_.max_model_len));
  OCTET_CHECK(options_.max_batched_tokens > 0 && options_.max_batched_tokens <= model.max_rows());
  OCTET_CHECK(options_.max_sequences > 0 && options_.max_sequences <= options_.max_batched_tokens);
  heartbeat_ = Clock::now().time_since_epoch().count();
  thread_ = std::thread([this] { loop(); });
  ::pthread_setname_np(thread_.native_handle(), "octet-engine");
}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

std::optional<RequestId> Engine::submit(Request request) {
  if (const auto why = refusal_of(request, {model_.config().vocab_size, options_.max_model_len,
                                            tokenizer_ != nullptr, options_.eos_ids}))
    throw RequestError(*why);
  OCTET_CHECK(request.sink != nullptr);
  const std::lock_guard lock(mutex_);
  if (lost_.load()) throw Error("another rank is lost: this server ends");
  if (stop_ || submitted_.size() + stats_.waiting >= options_.max_queue) return std::nullopt;
  auto s = std::make_unique<Sequence>(next_id_++, std::move(request), tokenizer_, options_.eos_ids);
  s->times.arrived = Clock::now();
  const RequestId id = s->id;
  submitted_.push_back(std::move(s));
  wake_.notify_one();
  return id;
}

void Engine::abort(RequestId id) {
  const std::lock_guard lock(mutex_);
  aborts_.push_back(id);
  wake_.notify_one();
}

EngineStats Engine::stats() const {
  const std::lock_guard lock(mutex_);
  EngineStats s = stats_;
  s.waiting += submitted_.size();
  return s;
}

double Engine::seconds_since_heartbeat() const {
  if (sleeping_.load(std::memory_order_relaxed)) return 0;
  const Clock::duration at(heartbeat_.load(std::memory_order_relaxed));
  return seconds(Clock::now().time_since_epoch() - at);
}

void Engine::fail_all(const std::string& why) {
  const std::lock_guard lock(mutex_);
  failure_of_all_ = why;
  wake_.notify_one();
}

void Engine::drain(double limit) {
  std::unique_lock lock(mutex_);
  const auto empty = [&] {
    return submitted_.empty() && stats_.running == 0 && stats_.waiting == 0;
  };
  if (idle_.wait_for(lock, std::chrono::duration<double>(limit), empty)) return;
  abort_all_ = true;
  wake_.notify_one();
  idle_.wait(lock, empty);
  abort_all_ = false;  // when the rest ended by itself
}

void Engine::publish_stats() {
  const std::lock_guard lock(mutex_);
  stats_.running = scheduler_.running().size();
  stats_.waiting = scheduler_.waiting().size();
  stats_.kv_usage =
      1.0 - static_cast<double>(cache_.free_blocks()) / static_cast<double>(cache_.blocks());
  stats_.prompt_tokens = prompt_tokens_;
  stats_.generation_tokens = generation_tokens_;
  stats_.preemptions = scheduler_.preemptions();
  if (scheduler_.idle()) idle_.notify_all();
}

void Engine::take_commands(std::unique_lock<std::mutex>& lock) {
  take_submitted();
  stats_.waiting = scheduler_.waiting().size();
  const std::vector<RequestId> aborts = std::exchange(aborts_, {});
  const bool all = std::exchange(abort_all_, false);
  const std::string failure = std::exchange(failure_of_all_, {});
  lock.unlock();
  const auto abort_those_of = [&](const auto& sequences) {
    for (const auto& s : sequences)
      if (all || std::find(aborts.begin(), aborts.end(), s->id) != aborts.end())
        finish(*s, FinishReason::kAbort);
  };
  if (!failure.empty()) {
    finish_all(FinishReason::kError, failure);
  } else if (all || !aborts.empty()) {
    abort_those_of(scheduler_.running());
    abort_those_of(scheduler_.waiting());
    scheduler_.remove_finished();
  }
  lock.lock();
}

void Engine::take_submitted() {
  for (auto& s : submitted_) scheduler_.add(std::move(s));
  submitted_.clear();
}

void Engine::loop() {
  model_.team().pin_caller();
  while (true) {
    heartbeat_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
    bool ping = false;
    {
      std::unique_lock lock(mutex_);
      if (scheduler_.idle()) {
        sleeping_.store(true, std::memory_order_relaxed);
        const auto wanted = [&] {
          return stop_ || abort_all_ || !submitted_.empty() || !aborts_.empty() ||
                 !failure_of_all_.empty();
        };
        if (model_.ranks() == 1)
          wake_.wait(lock, wanted);
        else if (!wake_.wait_for(lock, kPingInterval, wanted))
          ping = true;
        heartbeat_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
        sleeping_.store(false, std::memory_order_relaxed);
      }
      take_commands(lock);
      if (stop_) break;
    }
    try {
      if (ping) model_.ping();
      const Step step = scheduler_.schedule();
      publish_stats();
      if (!step.chunks.empty()) run(step);
    } catch (const RankError& e) {
      stop_without_ranks(e.what());
      return;
    } catch (const std::exception& e) {
      // Our own failure (out of memory, say). Every running request ends, because the step may have
      // left any of them half changed; the waiting ones have no state yet, and the engine goes on.
      spdlog::error("engine step failed: {}", e.what());
      // Other ranks may be inside it.
      if (model_.ranks() > 1) return stop_without_ranks(e.what());
      for (const auto& s : scheduler_.running())
        if (!s->finished) finish(*s, FinishReason::kError, e.what());
    }
    scheduler_.remove_finished();
    publish_stats();
  }
  {
    // What came while take_commands() had let go of the lock; from stop_ on nothing more comes.
    const std::lock_guard lock(mutex_);
    take_submitted();
  }
  finish_all(FinishReason::kAbort);
  model_.release();
}

// Another rank is lost.
void Engine::stop_without_ranks(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    lost_.store(true);
    take_submitted();
  }
  finish_all(FinishReason::kError, why);
  if (options_.on_lost_rank) options_.on_lost_rank(why);
}

void Engine::run(const Step& step) {
  std::vector<StepRow> rows = steps_.compute(step);
  prompt_tokens_ += step.prompt_tokens;
  const size_t generated = steps_.deliver(
      std::move(rows), [this](Sequence& s, RequestOutput out) { send(s, std::move(out)); });
  generation_tokens_ += generated;
  if (observer_ != nullptr) observer_->on_step(step.prompt_tokens, generated);
}

void Engine::send(Sequence& s, RequestOutput out) {
  if (out.finish) {
    scheduler_.finish(s);
    publish_stats();  // pages are free before the caller hears of the end
    if (observer_ != nullptr)
      observer_->on_finish(s.request, s.sampler.output().size(), *out.finish, s.times);
  }
  s.request.sink->on_output(std::move(out));
}

void Engine::finish(Sequence& s, FinishReason reason, const std::string& error) {
  RequestOutput out;
  out.finish = reason;
  out.error = error;
  send(s, std::move(out));
}

void Engine::finish_all(FinishReason reason, const std::string& error) {
  const auto finish_those_of = [&](const auto& sequences) {
    for (const auto& s : sequences)
      if (!s->finished) finish(*s, reason, error);
  };
  finish_those_of(scheduler_.running());
  finish_those_of(scheduler_.waiting());
  scheduler_.remove_finished();
  publish_stats();
}

}  // namespace octet
