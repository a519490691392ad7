#include "src/server/api/generation.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <iterator>
#include <utility>

#include "src/server/api/answer_chat.h"
#include "src/server/api/answer_completions.h"
#include "src/server/api/refusals.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

// Entries of log-probabilities that one answer may hold: 200 bytes each as JSON, so 600 MB. An
// answer of 128 Ki tokens with 20 alternatives each stays within.
constexpr double kMaxLogprobEntries = 3e6;
// Tokens of all its prompts together.
constexpr double kMaxPromptTokens = 1.6e7;

// Ids, biases and bytes of lists times answers: every answer looks at all of them once.
constexpr double kMaxListEntries = 1.6e7;
// Entries that all answers under way may hold together (200 bytes each); beyond that those end that
// hold more than a little. Nobody is asked for a reserve that most never use.
constexpr size_t kMaxHeldLogprobs = 6'000'000, kLittleHeld = kMaxHeldLogprobs / 64;

size_t logprobs_of(const RequestOutput& output) {
  size_t entries = 0;
  for (const TokenLogprob& l : output.logprobs) entries += 1 + l.top.size();
  for (const auto& l : output.prompt_logprobs) entries += l ? 1 + l->top.size() : 0;
  return entries;
}

// A small request must not ask for more than the server can hold: checked before anything is
// allocated, on the product of all counts.
void check_size(const GenerationRequest& r, const std::vector<Prompt>& prompts, size_t max_queue,
                size_t vocab) {
  const double n = static_cast<double>(r.n);
  const double answers = n * static_cast<double>(prompts.size());
  const size_t most = std::max<size_t>(1, max_queue / 2);  // room for others
  if (answers > static_cast<double>(most))
    throw bad_request(fmt::format("n times the number of prompts must be at most {}, got {} * {}",
                                  most, r.n, prompts.size()),
                      "n");
  const SamplingParams& s = r.sampling;
  size_t stop_bytes = 0;
  for (const std::string& stop : s.stop) stop_bytes += stop.size();
  for (const auto& [name, size] :
       {std::pair("allowed_token_ids", s.allowed_token_ids.size()),
        std::pair("stop_token_ids", s.stop_token_ids.size()),
        std::pair("logit_bias", s.logit_bias.size()), std::pair("stop", stop_bytes)})
    if (answers * static_cast<double>(size) > kMaxListEntries)
      throw bad_request(
          fmt::format("{} times the number of answers is too large: {} * {:.0f}, at most {:.0f}",
                      name, size, answers, kMaxListEntries),
          name);
  double prompt_tokens = 0, entries = 0;
  const auto each = [&](int k) {
    return k < 0 ? 0 : 1 + std::min(static_cast<double>(k), static_cast<double>(vocab));
  };
  for (const Prompt& p : prompts) {
    prompt_tokens += n * static_cast<double>(p.tokens.size());
    entries += n * (static_cast<double>(p.max_tokens) * each(r.sampling.logprobs) +
                    static_cast<double>(p.tokens.size()) * each(r.sampling.prompt_logprobs));
  }
  if (prompt_tokens > kMaxPromptTokens)
    throw bad_request("n times the length of the prompts is too large", "n");
  if (entries > kMaxLogprobEntries)
    throw bad_request(
        fmt::format("the request may need {:.0f} log-probabilities, at most {:.0f} are allowed: "
                    "lower logprobs, max_tokens, n or the number of prompts",
                    entries, kMaxLogprobEntries),
        "logprobs");
}

std::unique_ptr<Answer> make_answer(const GenerationRequest& request, const std::string& id,
                                    const std::string& model, const text::Tokenizer& tokenizer) {
  if (request.chat())
    return std::make_unique<ChatAnswer>(request, "chatcmpl-" + id, model, tokenizer);
  return std::make_unique<CompletionAnswer>(request, "cmpl-" + id, model, tokenizer);
}

void end_stream(Exchange& exchange) {
  exchange.write("data: [DONE]\n\n");
  exchange.end_stream();
}

}  // namespace

class Generation::Sink final : public OutputSink {
 public:
  Sink(std::shared_ptr<Generation> generation, size_t choice)
      : generation_(std::move(generation)), choice_(choice) {}
  void on_output(RequestOutput output) override {
    generation_->deliver(choice_, std::move(output));
  }

 private:
  std::shared_ptr<Generation> generation_;
  size_t choice_;
};

Generation::Generation(Context& context, GenerationRequest request, const std::string& id,
                       std::shared_ptr<Exchange> exchange)
    : context_(context), request_(std::move(request)), exchange_(std::move(exchange)) {
  const PromptMaker maker = context.prompts();
  prompts_ = maker.make(request_, [this] { throw_if_gone(*exchange_); });
  if (const auto cap = context.options.defaults.max_new_tokens; cap && *cap > 0)
    for (Prompt& p : prompts_) p.max_tokens = std::min(p.max_tokens, static_cast<size_t>(*cap));
  for (const Prompt& p : prompts_)
    if (request_.sampling.min_tokens > p.max_tokens && !request_.prompt_only())
      throw bad_request(fmt::format("min_tokens must be at most max_tokens={}, got {}.",
                                    p.max_tokens, request_.sampling.min_tokens),
                        "min_tokens");
  bad_words_ = maker.bad_words(request_.bad_words);
  check_size(request_, prompts_, context.engine.options().max_queue,
             context.tokenizer.vocab_size());
  answer_ =
      make_answer(request_, id, context.options.served_model_names.front(), context.tokenizer);
  choices_.resize(prompts_.size() * request_.n);
  for (size_t i = 0; i < choices_.size(); ++i) {
    choices_[i].index = i;
    choices_[i].prompt = &prompts_[i / request_.n];
    if (request_.sampling.logprobs >= 0)
      choices_[i].names.emplace(context.tokenizer, request_.tokens_as_ids,
                                request_.sampling.skip_special_tokens, choices_[i].prompt->tokens,
                                choices_[i].prompt->is_text);
  }
  unfinished_ = choices_.size();
  lengths_.resize(choices_.size());
  open_.assign(prompts_.size(), request_.n);
  context_.load.fetch_add(1, std::memory_order_relaxed);
}

Generation::~Generation() {
  release_logprobs(held_logprobs_.load(std::memory_order_relaxed));
  end_load();
}

// Whether this generation may go on: beyond the limit only those that hold little may.
bool Generation::hold_logprobs(size_t entries) {
  const size_t own = held_logprobs_.fetch_add(entries, std::memory_order_relaxed) + entries;
  const size_t all = context_.logprobs.fetch_add(entries, std::memory_order_relaxed) + entries;
  return all <= kMaxHeldLogprobs || own <= kLittleHeld;
}

void Generation::release_logprobs(size_t entries) {
  held_logprobs_.fetch_sub(entries, std::memory_order_relaxed);
  context_.logprobs.fetch_sub(entries, std::memory_order_relaxed);
}

void Generation::submit() {
  const auto undo = [&] {
    for (RequestId id : ids_) context_.engine.abort(id);
  };
  try {
    for (const Choice& c : choices_) {
      Request r{c.prompt->tokens, request_.sampling,
                std::make_shared<Sink>(shared_from_this(), c.index), c.prompt->is_text};
      r.sampling.max_tokens = c.prompt->max_tokens;
      r.sampling.bad_words = bad_words_;
      // Answers to one prompt differ, and are the same again with the same seed.
      if (r.sampling.seed)
        r.sampling.seed =
            static_cast<int64_t>(static_cast<uint64_t>(*r.sampling.seed) + c.index % request_.n);
      const auto id = context_.engine.submit(std::move(r));
      if (!id) throw http_error(503, "Request queue full.");
      ids_.push_back(*id);
    }
  } catch (const RequestError& e) {
    undo();
    throw error_of(e.why());
  } catch (...) {
    undo();
    throw;
  }
  boost::asio::post(context_.io, [self = shared_from_this()] { self->start(); });
}

void Generation::deliver(size_t choice, RequestOutput output) {
  count(choice, output);
  if (const size_t entries = logprobs_of(output); entries > 0 && !hold_logprobs(entries)) {
    output = {};
    output.finish = FinishReason::kError;
    output.error = "requests under way hold too many log-probabilities together";
  }
  {
    const std::lock_guard lock(mutex_);
    inbox_.emplace_back(choice, std::move(output));
    if (std::exchange(drain_posted_, true)) return;
  }
  boost::asio::post(context_.io, [self = shared_from_this()] { self->drain_inbox(); });
}

// For the metrics: a prompt is done with its last answer.
void Generation::count(size_t choice, const RequestOutput& output) {
  lengths_[choice] += output.tokens.size();
  const size_t prompt = choice / request_.n;
  if (!output.finish || --open_[prompt] > 0) return;
  const auto first = lengths_.begin() + static_cast<ptrdiff_t>(prompt * request_.n);
  context_.metrics.on_prompt_done(
      request_.n, *std::max_element(first, first + static_cast<ptrdiff_t>(request_.n)));
}

void Generation::start() {
  started_ = true;
  if (exchange_->gone()) return cancel();
  exchange_->on_gone([self = shared_from_this()] { self->cancel(); });
  if (request_.stream) exchange_->begin_stream("text/event-stream; charset=utf-8");
  drain_inbox();
}

void Generation::drain_inbox() {
  if (!started_) return;  // start() comes back
  {
    const std::lock_guard lock(mutex_);
    std::move(inbox_.begin(), inbox_.end(), std::back_inserter(unsent_));
    inbox_.clear();
    drain_posted_ = false;
  }
  send_unsent();
}

void Generation::send_unsent() {
  while (exchange_ != nullptr && !unsent_.empty()) {
    if (exchange_->congested())
      return exchange_->on_writable([self = shared_from_this()] { self->send_unsent(); });
    auto [choice, output] = std::move(unsent_.front());
    unsent_.pop_front();
    send_output(choices_[choice], std::move(output));
  }
  if (exchange_ == nullptr) unsent_.clear();
}

void Generation::send_output(Choice& choice, RequestOutput output) {
  if (output.finish == FinishReason::kError) return fail(output.error);
  const size_t logprobs = logprobs_of(output);
  choice.append(std::move(output), request_.prompt_only());
  if (choice.finish) --unfinished_;
  if (request_.stream) {
    for (const ordered_json& event : answer_->events(choice)) write_event(event);
    release_logprobs(logprobs);
  }
  if (unfinished_ == 0 && exchange_ != nullptr) complete();
}

void Generation::write_event(const ordered_json& event) {
  if (exchange_ != nullptr) exchange_->write("data: " + dump(event) + "\n\n");
}

void Generation::complete() {
  if (request_.stream) {
    if (request_.include_usage) write_event(answer_->usage_event(choices_));
    const auto exchange = std::exchange(exchange_, nullptr);
    end_load();
    if (exchange != nullptr) end_stream(*exchange);
    return;
  }
  // With many log-probabilities this takes a while.
  boost::asio::post(context_.pool, [self = shared_from_this(), client = exchange_] {
    if (client->gone()) return;
    std::string body;
    try {
      body = dump(self->answer_->whole(self->choices_));
    } catch (const std::exception& e) {  // out of memory
      return boost::asio::post(self->context_.io,
                               [self, why = std::string(e.what())] { self->fail(why); });
    }
    boost::asio::post(self->context_.io, [self, body = std::move(body)]() mutable {
      const auto exchange = std::exchange(self->exchange_, nullptr);
      if (exchange == nullptr) return;  // the client went meanwhile
      self->end_load();
      exchange->respond({200, "application/json", std::move(body), {}});
    });
  });
}

void Generation::fail(const std::string& message) {
  const ApiError error(500, "InternalServerError", message);
  if (request_.stream) write_event(error.json());
  const auto exchange = std::exchange(exchange_, nullptr);
  cancel();
  if (exchange == nullptr) return;
  if (request_.stream)
    end_stream(*exchange);
  else
    exchange->respond({500, "application/json", dump(error.json()), {}});
}

void Generation::cancel() {
  for (RequestId id : ids_) context_.engine.abort(id);
  exchange_.reset();
  end_load();
}

void Generation::end_load() {
  if (!std::exchange(load_ended_, true)) context_.load.fetch_sub(1, std::memory_order_relaxed);
}

}  // namespace octet::server
