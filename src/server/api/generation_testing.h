// What handlers need, without sockets: an engine on a tiny model, and a loop that the test turns.
#pragma once

#include <boost/asio/executor_work_guard.hpp>
#include <functional>
#include <memory>

#include "src/engine/testing.h"
#include "src/server/api/context.h"
#include "src/server/http/exchange_testing.h"

namespace octet::server::tests {

using octet::tests::kPatience;

class ApiTest : public octet::tests::EngineTest {
 protected:
  ApiTest() {
    options_.served_model_names = {"tiny", "alias"};
    options_.model_path = "/models/tiny";
    options_.version = "1.2.3";
    options_.access_log = false;
  }
  ~ApiTest() override {
    pool_.join();
    large_.join();
    counting_.join();
    if (engine_ != nullptr) engine_->drain(0);
  }

  // As start() of the engine; options_ are fixed from then on.
  void start_context(size_t max_sequences = 16, size_t max_queue = 64) {
    start(64, max_sequences, max_queue);
    metrics_ = std::make_unique<Metrics>("tiny", engine_->options());
    const Backend backend{*engine_, tokenizer_, nullptr, *metrics_};
    context_.reset(new Context{backend, options_, io_, pool_, large_, counting_, {}});
  }
  // Runs what is posted to the I/O thread until the condition holds.
  void run_until(const std::function<bool()>& condition) {
    while (!condition())
      ASSERT_GT(io_.run_one_for(kPatience), 0u) << "the condition never came true";
  }
  void wait_for_answer(const RecordedExchange& exchange) {
    run_until([&] { return exchange.response().has_value(); });
  }

  ServerOptions options_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Context> context_;
  // What follows goes first, with handlers that refer to what is above.
  boost::asio::io_context io_{1};
  boost::asio::thread_pool pool_{1}, large_{1}, counting_{1};

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      io_.get_executor()};
};

}  // namespace octet::server::tests
