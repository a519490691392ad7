// What handlers get.
#pragma once

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>

#include "src/engine/engine.h"
#include "src/server/api/options.h"
#include "src/server/api/prompts.h"
#include "src/server/metrics/metrics.h"
#include "src/text/chat_template.h"
#include "src/text/tokenizer.h"

namespace octet::server {

// The model behind the server; all of it must outlive the server.
struct Backend {
  Engine& engine;
  const text::Tokenizer& tokenizer;
  const text::ChatTemplate* chat_template;  // null: chat requests get 400
  Metrics& metrics;                         // the engine's observer
};

// Lives as long as the server.
struct Context : Backend {
  const ServerOptions& options;
  boost::asio::io_context& io;         // run by one thread
  boost::asio::thread_pool& pool;      // for what takes longer
  boost::asio::thread_pool& large;     // for large requests, which are in no other's way there
  boost::asio::thread_pool& counting;  // for large texts that are only counted: one at a time
  std::atomic<size_t> load{0};         // generations under way
  std::atomic<size_t> logprobs{0};     // entries that their answers hold

  PromptMaker prompts() const { return {tokenizer, chat_template, engine.options().max_model_len}; }
};

}  // namespace octet::server
