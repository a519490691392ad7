// The life of one request for text: parsed, tokenized, handed to the engine, told to the client.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "src/engine/engine.h"
#include "src/server/answer.h"
#include "src/server/exchange.h"
#include "src/server/metrics.h"
#include "src/server/prompts.h"
#include "src/server/server.h"

namespace octet::server {

// What handlers need; lives as long as the server.
struct Context {
  Engine& engine;
  const text::Tokenizer& tokenizer;
  const text::ChatTemplate* chat_template;
  Metrics& metrics;
  const ServerOptions& options;
  boost::asio::io_context& io;     // run by one thread
  boost::asio::thread_pool& pool;  // for what takes long
  std::atomic<size_t> load{0};     // generations under way

  PromptMaker prompts() const { return {tokenizer, chat_template, engine.options().max_model_len}; }
};

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

  void deliver(size_t choice, RequestOutput output);  // the engine's thread
  // The rest is for the I/O thread.
  void start();
  void drain();  // the inbox
  void tell();   // what was drained, as fast as the client takes it
  void take(Choice& choice, RequestOutput output);
  void complete();
  void fail(const std::string& message);
  void cancel();
  void leave();
  void send(const ordered_json& event);

  Context& context_;
  const GenerationRequest request_;
  std::vector<Prompt> prompts_;
  std::vector<std::vector<int32_t>> bad_words_;
  std::unique_ptr<Answer> answer_;
  std::shared_ptr<Exchange> exchange_;  // null once answered
  std::vector<Choice> choices_;
  std::vector<RequestId> ids_;                           // of the engine, by choice
  std::deque<std::pair<size_t, RequestOutput>> untold_;  // by choice
  size_t unfinished_ = 0;
  bool started_ = false;
  bool left_ = false;  // no longer counted as load

  std::mutex mutex_;  // guards the inbox
  std::vector<std::pair<size_t, RequestOutput>> inbox_;
  bool drain_posted_ = false;
};

}  // namespace octet::server
