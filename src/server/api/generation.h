// The life of one request for text: parsed, tokenized, handed to the engine, its outputs sent to
// the client.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "src/engine/request.h"
#include "src/server/api/answer.h"
#include "src/server/api/context.h"
#include "src/server/http/exchange.h"

namespace octet::server {

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Tokenizes and checks; throws what becomes an error answer. On a pool thread.
  Generation(Context& context, GenerationRequest request, const std::string& id,
             std::shared_ptr<Exchange> exchange);
  ~Generation();

  // Hands everything to the engine, or nothing: ApiError 503 when its queue is full. Answers follow
  // by themselves. On a pool thread, once.
  void submit();

 private:
  class Sink;

  // The engine's thread.
  void deliver(size_t choice, RequestOutput output);
  void count(size_t choice, const RequestOutput& output);
  bool hold_logprobs(size_t entries);
  // The rest is for the I/O thread.
  void start();
  void drain_inbox();
  void send_unsent();  // as fast as the client takes it
  void send_output(Choice& choice, RequestOutput output);
  void release_logprobs(size_t entries);
  void complete();
  void fail(const std::string& message);
  void cancel();
  void end_load();
  void write_event(const ordered_json& event);

  Context& context_;
  const GenerationRequest request_;
  std::vector<Prompt> prompts_;
  Shared<std::vector<int32_t>> bad_words_;
  std::unique_ptr<Answer> answer_;
  std::shared_ptr<Exchange> exchange_;  // null once answered
  std::vector<Choice> choices_;
  std::vector<RequestId> ids_;                           // of the engine, by choice
  std::deque<std::pair<size_t, RequestOutput>> unsent_;  // by choice
  size_t unfinished_ = 0;
  std::vector<size_t> lengths_;  // tokens so far, by choice; the engine thread's
  std::vector<size_t> open_;     // answers that are not complete, by prompt; the engine thread's
  bool started_ = false;
  bool load_ended_ = false;               // no longer counted as load
  std::atomic<size_t> held_logprobs_{0};  // of Context::logprobs

  std::mutex mutex_;  // guards the inbox
  std::vector<std::pair<size_t, RequestOutput>> inbox_;
  bool drain_posted_ = false;
};

}  // namespace octet::server
