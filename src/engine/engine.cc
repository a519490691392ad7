#include "src/engine/engine.h"

#include <fmt/format.h>
#include <pthread.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <utility>

#include "src/base/error.h"
#include "src/engine/sampler.h"
#include "src/engine/stop_matcher.h"
#include "src/text/stream_decoder.h"

namespace octet {
namespace {

// Rows of one step for which prompt logprobs may be wanted: bounds the logits buffer.
constexpr size_t kPromptLogprobRows = 32;

// While nothing runs, the other ranks are asked this often whether they are there.
constexpr auto kPingInterval = std::chrono::milliseconds(250);

// Bounds within which the sampler's arithmetic stays finite.
constexpr double kMaxBias = 1e6, kMaxNumber = std::numeric_limits<double>::max();
constexpr double kMinTopP = std::numeric_limits<double>::min();  // above 0

// Refuses NaN too.
void check_range(double value, double lo, double hi, const char* field) {
  if (value >= lo && value <= hi) return;
  throw usage_error("out of range")
      .field(field)
      .expected(fmt::format("{} to {}", lo, hi))
      .found(fmt::format("{}", value));
}

double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }

}  // namespace

// A request on its way: waiting (no pages), running (computed < tokens.size(): prefill or the next
// token), finished.
struct Engine::Sequence {
  Sequence(RequestId id_, Request request_, const text::Tokenizer* tokenizer,
           const std::vector<int32_t>& eos_ids)
      : id(id_),
        request(std::move(request_)),
        tokens(request.prompt),
        sampler(request.sampling, request.prompt, eos_ids),
        stops(request.sampling.stop, request.sampling.include_stop) {
    if (tokenizer != nullptr) decoder.emplace(*tokenizer, request.sampling.skip_special_tokens);
    times.arrived = Clock::now();
  }

  RequestId id;
  Request request;
  std::vector<int32_t> tokens;  // prompt and output
  size_t computed = 0;          // tokens whose keys and values are in the cache
  std::vector<int32_t> blocks;
  Sampler sampler;
  std::optional<text::StreamDecoder> decoder;
  StopMatcher stops;
  std::vector<std::optional<TokenLogprob>> prompt_logprobs;
  RequestTimes times;
  size_t counted = 0;  // prompt tokens in the statistics: those computed again count once
  bool finished = false;

  bool wants_prompt_logprobs() const {
    return request.sampling.prompt_logprobs >= 0 && prompt_logprobs.size() < request.prompt.size();
  }
};

// What one step computes, with the sequence of every wanted row.
struct Engine::Step {
  struct Wanted {
    Sequence* sequence;
    size_t position;  // the row's place in the sequence
  };
  Batch batch;
  std::vector<Wanted> wanted;
  size_t prompt_tokens = 0, generated = 0;
};

Engine::Engine(Transformer& model, const text::Tokenizer* tokenizer, EngineOptions options,
               EngineObserver* observer)
    : model_(model),
      tokenizer_(tokenizer),
      options_(std::move(options)),
      observer_(observer),
      cache_(model.shape(), options_.kv_blocks, options_.kv_type) {
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

void Engine::validate(const Request& r) const {
  const int64_t vocab = model_.config().vocab_size;
  const auto check_ids = [&](const std::vector<int32_t>& ids, const char* field) {
    for (int32_t id : ids)
      if (id < 0 || id >= vocab)
        throw usage_error(fmt::format("token id {} is out of vocabulary (0..{})", id, vocab - 1))
            .field(field);
  };
  if (r.prompt.empty()) throw usage_error("the prompt is empty").field("prompt");
  check_ids(r.prompt, "prompt");
  check_ids(r.sampling.stop_token_ids, "stop_token_ids");
  check_ids(r.sampling.allowed_token_ids, "allowed_token_ids");
  for (const auto& word : r.sampling.bad_words) {
    if (word.empty()) throw usage_error("a bad word is empty").field("bad_words");
    check_ids(word, "bad_words");
  }
  for (const auto& [id, bias] : r.sampling.logit_bias) {
    check_ids({id}, "logit_bias");
    check_range(bias, -kMaxBias, kMaxBias, "logit_bias");
  }
  check_range(r.sampling.temperature, 0, kMaxNumber, "temperature");
  check_range(r.sampling.top_p, kMinTopP, 1, "top_p");
  check_range(r.sampling.min_p, 0, 1, "min_p");
  check_range(r.sampling.repetition_penalty, kMinRepetitionPenalty, kMaxRepetitionPenalty,
              "repetition_penalty");
  check_range(r.sampling.frequency_penalty, -kMaxBias, kMaxBias, "frequency_penalty");
  check_range(r.sampling.presence_penalty, -kMaxBias, kMaxBias, "presence_penalty");
  for (const std::string& stop : r.sampling.stop)
    if (stop.empty()) throw usage_error("a stop string is empty").field("stop");
  if (r.sampling.max_tokens < 1)
    throw usage_error("max_tokens must be at least 1").field("max_tokens");
  if (r.prompt.size() + r.sampling.max_tokens > options_.max_model_len)
    throw usage_error(
        fmt::format("This model's maximum context length is {} tokens. However, you "
                    "requested {} output tokens and your prompt contains {} input tokens, "
                    "{} in all. "
                    "Reduce the prompt or the number of output tokens.",
                    options_.max_model_len, r.sampling.max_tokens, r.prompt.size(),
                    r.prompt.size() + r.sampling.max_tokens))
        .field("input_tokens");
  if (tokenizer_ == nullptr && !r.sampling.stop.empty())
    throw usage_error("stop strings need a tokenizer").field("stop");
  OCTET_CHECK(r.sink != nullptr);
}

std::optional<RequestId> Engine::submit(Request request) {
  validate(request);
  std::unique_ptr<Sequence> s;
  {
    const std::lock_guard lock(mutex_);
    if (lost_.load()) throw Error("another rank is lost: this server ends");
    if (stop_ || submitted_.size() + stats_.waiting >= options_.max_queue) return std::nullopt;
    s = std::make_unique<Sequence>(next_id_++, std::move(request), tokenizer_, options_.eos_ids);
    const RequestId id = s->id;
    submitted_.push_back(std::move(s));
    wake_.notify_one();
    return id;
  }
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

void Engine::publish() {
  const std::lock_guard lock(mutex_);
  stats_.running = running_.size();
  stats_.waiting = waiting_.size();
  stats_.kv_usage =
      1.0 - static_cast<double>(cache_.free_blocks()) / static_cast<double>(cache_.blocks());
  stats_.prompt_tokens = prompt_tokens_;
  stats_.generation_tokens = generation_tokens_;
  stats_.preemptions = preemptions_;
  if (running_.empty() && waiting_.empty()) idle_.notify_all();
}

void Engine::take_commands(std::unique_lock<std::mutex>& lock) {
  while (!submitted_.empty()) {
    waiting_.push_back(std::move(submitted_.front()));
    submitted_.pop_front();
  }
  stats_.waiting = waiting_.size();
  const std::vector<RequestId> aborts = std::exchange(aborts_, {});
  const bool all = std::exchange(abort_all_, false);
  lock.unlock();
  const auto is_aborted = [&](RequestId id) {
    return all || std::find(aborts.begin(), aborts.end(), id) != aborts.end();
  };
  if (all || !aborts.empty()) {
    for (auto& s : running_)
      if (is_aborted(s->id)) finish(*s, FinishReason::kAbort);
    for (auto& s : waiting_)
      if (is_aborted(s->id)) finish(*s, FinishReason::kAbort);
    remove_finished();
  }
  lock.lock();
}

void Engine::loop() {
  model_.team().pin_caller();
  while (true) {
    heartbeat_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
    bool ping = false;
    {
      std::unique_lock lock(mutex_);
      if (running_.empty() && waiting_.empty()) {
        sleeping_.store(true, std::memory_order_relaxed);
        const auto wanted = [&] {
          return stop_ || abort_all_ || !submitted_.empty() || !aborts_.empty();
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
    Step step;
    try {
      if (ping) model_.ping();
      schedule(step);
      publish();
      if (!step.batch.tokens.empty()) run(step);
    } catch (const RankError& e) {
      lose(e.what());
      return;
    } catch (const std::exception& e) {
      // Our own failure (out of memory, say). Every running request ends, because the step may have
      // left any of them half changed; the waiting ones have no state yet, and the engine goes on.
      spdlog::error("engine step failed: {}", e.what());
      for (auto& s : running_)
        if (!s->finished) finish(*s, FinishReason::kError, e.what());
    }
    remove_finished();
    publish();
  }
  {
    // What came while take_commands() had let go of the lock; from stop_ on nothing more comes.
    const std::lock_guard lock(mutex_);
    std::move(submitted_.begin(), submitted_.end(), std::back_inserter(waiting_));
    submitted_.clear();
  }
  for (auto& s : running_) finish(*s, FinishReason::kAbort);
  for (auto& s : waiting_) finish(*s, FinishReason::kAbort);
  running_.clear();
  waiting_.clear();
  publish();
  model_.release();
}

void Engine::lose(const std::string& why) {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
    lost_.store(true);
    std::move(submitted_.begin(), submitted_.end(), std::back_inserter(waiting_));
    submitted_.clear();
  }
  const auto end = [&](const auto& all) {
    for (const auto& s : all)
      if (!s->finished) finish(*s, FinishReason::kError, why);
  };
  end(running_);
  end(waiting_);
  running_.clear();
  waiting_.clear();
  publish();
  if (options_.on_lost_rank) options_.on_lost_rank(why);
}

// Pages for the sequence's first `tokens` tokens; preempts later arrivals when there are too few.
// False when the sequence itself had to give way.
bool Engine::make_room(Sequence& s, size_t tokens) {
  const size_t needed = blocks_for(tokens);
  while (needed > s.blocks.size() && !cache_.allocate(needed - s.blocks.size(), s.blocks)) {
    std::unique_ptr<Sequence> victim = std::move(running_.back());
    running_.pop_back();
    cache_.release(victim->blocks);
    victim->computed = 0;
    if (victim->wants_prompt_logprobs()) victim->prompt_logprobs.clear();  // computed again
    ++preemptions_;
    const bool self = victim.get() == &s;
    waiting_.push_front(std::move(victim));
    if (self) return false;
  }
  return true;
}

void Engine::schedule(Step& step) {
  size_t budget = options_.max_batched_tokens;
  const auto add = [&](Sequence& s, size_t count) {
    const size_t position = s.computed;
    // A preempted sequence computes tokens that it generated again beside its prompt.
    const size_t generated =
        position + count - std::clamp(s.request.prompt.size(), position, position + count);
    const size_t first = step.batch.add(std::span(s.tokens).subspan(position, count), position,
                                        s.blocks.data(), generated);
    for (size_t i = 0; i < count; ++i) {
      const bool last = position + i + 1 == s.tokens.size();
      const bool prompt_row =
          s.wants_prompt_logprobs() && position + i + 1 < s.request.prompt.size();
      if (!last && !prompt_row) continue;
      step.batch.logit_rows.push_back(first + i);
      step.wanted.push_back({&s, position + i});
    }
    s.computed += count;
    if (const size_t prompt = std::min(s.computed, s.request.prompt.size()); prompt > s.counted) {
      step.prompt_tokens += prompt - s.counted;
      s.counted = prompt;
    }
    budget -= count;
  };
  const auto chunk = [&](const Sequence& s, size_t limit) {
    size_t n = std::min(s.tokens.size() - s.computed, limit);
    return s.wants_prompt_logprobs() ? std::min(n, kPromptLogprobRows) : n;
  };
  // Running sequences first, one token each for those that generate (prefill takes what is left).
  // A preemption removes later ones, so the index stays valid.
  size_t generating = 0;
  for (const auto& s : running_) generating += s->tokens.size() - s->computed == 1;
  for (size_t i = 0; i < running_.size() && budget > 0; ++i) {
    Sequence& s = *running_[i];
    const size_t left = s.tokens.size() - s.computed;
    const size_t reserve = left > 1 ? generating : 0;  // tokens kept for those who generate
    if (left > 1 && budget <= reserve) continue;
    const size_t n = chunk(s, budget - reserve);
    if (n == 0 || !make_room(s, s.computed + n)) continue;
    if (left == 1 && generating > 0) --generating;
    add(s, n);
  }
  while (!waiting_.empty() && budget > 0 && running_.size() < options_.max_sequences) {
    Sequence& s = *waiting_.front();
    // Admitted only when its known tokens fit, so that admission does not preempt.
    if (blocks_for(s.tokens.size() + 1) > cache_.free_blocks() && !running_.empty()) break;
    if (s.times.scheduled == Clock::time_point()) s.times.scheduled = Clock::now();
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    const size_t n = chunk(s, budget);
    if (!make_room(s, n)) break;
    add(s, n);
  }
}

void Engine::run(Step& step) {
  const std::span<const float> view = model_.forward(step.batch, cache_);
  const size_t vocab = static_cast<size_t>(model_.config().vocab_size);
  float* logits = const_cast<float*>(view.data());  // the buffer is ours until the next forward
  std::vector<int32_t> tokens(step.wanted.size(), -1);
  std::vector<TokenLogprob> logprobs(step.wanted.size());
  model_.team().run([&](Worker& w) {
    for (size_t i = w.id(); i < step.wanted.size(); i += w.count()) {
      Sequence& s = *step.wanted[i].sequence;
      const std::span<float> row(logits + i * vocab, vocab);
      const size_t next = step.wanted[i].position + 1;
      Sampler::make_safe(row);
      if (next == s.tokens.size())
        tokens[i] = s.sampler.sample(row, &logprobs[i]);
      else
        logprobs[i] = Sampler::logprob_of(row, s.tokens[next], s.request.sampling.prompt_logprobs);
    }
  });
  prompt_tokens_ += step.prompt_tokens;
  for (size_t i = 0; i < step.wanted.size(); ++i) {
    Sequence& s = *step.wanted[i].sequence;
    if (tokens[i] >= 0) {
      ++step.generated;
      accept(s, tokens[i], std::move(logprobs[i]));
    } else {
      if (s.prompt_logprobs.empty()) s.prompt_logprobs.emplace_back();  // the first has none
      s.prompt_logprobs.emplace_back(std::move(logprobs[i]));
    }
  }
  generation_tokens_ += step.generated;
  if (observer_ != nullptr) observer_->on_step(step.prompt_tokens, step.generated);
}

void Engine::accept(Sequence& s, int32_t token, TokenLogprob logprob) {
  const SamplingParams& p = s.request.sampling;
  const auto now = Clock::now();
  const size_t count = s.sampler.output().size();
  if (observer_ != nullptr) {
    if (count == 1)
      observer_->on_first_token(seconds(now - s.times.arrived));
    else
      observer_->on_next_token(seconds(now - s.times.last_token));
  }
  if (count == 1) s.times.first_token = now;
  s.times.last_token = now;
  s.tokens.push_back(token);

  RequestOutput out;
  out.tokens = {token};
  if (p.logprobs >= 0) out.logprobs.push_back(std::move(logprob));
  if (count == 1 && p.prompt_logprobs >= 0) {
    if (s.prompt_logprobs.empty()) s.prompt_logprobs.emplace_back();  // a one-token prompt
    out.prompt_logprobs = std::move(s.prompt_logprobs);
    s.prompt_logprobs.resize(s.request.prompt.size());  // done: none is wanted any more
  }

  const auto has = [&](const std::vector<int32_t>& ids) {
    return std::find(ids.begin(), ids.end(), token) != ids.end();
  };
  const bool stop_token = count >= p.min_tokens && has(p.stop_token_ids);
  const bool eos = count >= p.min_tokens && !p.ignore_eos && has(options_.eos_ids);
  // The token that ends the text is not part of it, unless the request wants to see what did.
  const bool silent = (stop_token || eos) && !p.include_stop;
  if (s.decoder && !silent) {
    const std::string text = s.decoder->push(token);
    out.text = count >= p.min_tokens ? s.stops.push(text) : text;
  }
  if (s.stops.matched()) {
    out.finish = FinishReason::kStop;
    out.stop_reason = *s.stops.matched();
  } else if (stop_token || eos) {
    out.finish = FinishReason::kStop;
    if (stop_token && !eos) out.stop_reason = token;
  } else if (count >= p.max_tokens) {
    out.finish = FinishReason::kLength;
  }
  if (out.finish && s.decoder && !s.stops.matched()) {
    out.text += s.stops.push(s.decoder->flush());
    out.text += s.stops.flush();
  }
  const auto reason = out.finish;
  if (reason) {
    s.finished = true;
    cache_.release(s.blocks);
    publish();  // pages are free before the caller hears of the end
    if (observer_ != nullptr) observer_->on_finish(s.request, count, *reason, s.times);
  }
  s.request.sink->on_output(std::move(out));
}

void Engine::finish(Sequence& s, FinishReason reason, const std::string& error) {
  s.finished = true;
  cache_.release(s.blocks);
  if (observer_ != nullptr)
    observer_->on_finish(s.request, s.sampler.output().size(), reason, s.times);
  RequestOutput out;
  out.finish = reason;
  out.error = error;
  s.request.sink->on_output(std::move(out));
}

void Engine::remove_finished() {
  std::erase_if(running_, [](const auto& s) { return s->finished; });
  std::erase_if(waiting_, [](const auto& s) { return s->finished; });
}

}  // namespace octet
