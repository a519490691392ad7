#include "src/server/server.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <boost/asio/signal_set.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <unordered_map>

#include "src/base/error.h"
#include "src/server/connection.h"
#include "src/server/generation.h"
#include "src/server/listener.h"
#include "src/server/router.h"

namespace octet::server {
namespace {

using boost::system::error_code;

constexpr size_t kPoolThreads = 2;
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);  // when out of file descriptors

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

}  // namespace

struct Server::Impl final : ConnectionOwner {
  Impl(Engine& engine_, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
       Metrics& metrics, ServerOptions options_, Listener& listener)
      : options(std::move(options_)),
        tls(listener.take_tls()),
        engine(engine_),
        context{engine, tokenizer, chat_template, metrics, options, io, pool, {}},
        router(context),
        acceptor(listener.take_acceptor(io)) {
    OCTET_CHECK(!options.served_model_names.empty());
  }

  // The engine must have let go of every request before what requests refer to goes.
  ~Impl() override {
    pool.join();
    engine.drain(0);
  }

  void accept() {
    if (accepting || stopping || connections.size() >= options.max_connections) return;
    accepting = true;
    acceptor.async_accept([this](error_code ec, tcp::socket socket) {
      accepting = false;
      if (stopping) return;
      if (ec) {
        retry.expires_after(kAcceptRetry);
        retry.async_wait([this](error_code canceled) {
          if (!canceled) accept();
        });
        return;
      }
      const auto connection = make_connection(std::move(socket), tls.get(), options, *this);
      connections.emplace(connection.get(), connection);
      connection->start();
      accept();
    });
  }

  void handle(std::shared_ptr<Exchange> exchange) override { router.handle(std::move(exchange)); }

  void closed(Connection* connection) override {
    connections.erase(connection);
    if (stopping && connections.empty()) return io.stop();
    accept();
  }

  bool reserve(size_t bytes) override {
    if (bytes > options.max_bodies_bytes - bodies) return false;
    bodies += bytes;
    return true;
  }
  void release(size_t bytes) override { bodies -= bytes; }

  void watch_signals() {
    signals.async_wait([this](error_code ec, int) {
      if (ec) return;
      stop();
      watch_signals();
    });
  }

  // First call: no new work, and a limit for the old. Second: the end.
  void stop() {
    if (std::exchange(stopping, true)) return abort();
    router.close();
    error_code ignored;
    acceptor.close(ignored);
    spdlog::info("stopping: waiting up to {} s for {} connections", options.shutdown_grace_seconds,
                 connections.size());
    for (const auto& connection : snapshot()) connection->close_when_idle();
    if (connections.empty()) return io.stop();
    grace.expires_after(milliseconds(options.shutdown_grace_seconds));
    grace.async_wait([this](error_code ec) {
      if (!ec) abort();
    });
  }

  void abort() {
    for (const auto& connection : snapshot()) connection->abort();
    io.stop();
  }

  std::vector<std::shared_ptr<Connection>> snapshot() const {
    std::vector<std::shared_ptr<Connection>> all;
    for (const auto& [key, weak] : connections)
      if (auto connection = weak.lock()) all.push_back(std::move(connection));
    return all;
  }

  // A line of figures while there is work, as scripts expect it.
  void log_stats(EngineStats before) {
    stats_timer.expires_after(milliseconds(options.log_stats_seconds));
    stats_timer.async_wait([this, before](error_code ec) {
      if (ec) return;
      const EngineStats now = context.engine.stats();
      const auto rate = [&](uint64_t from, uint64_t to) {
        return static_cast<double>(to - from) / options.log_stats_seconds;
      };
      if (now.running + now.waiting > 0 || now.generation_tokens != before.generation_tokens)
        spdlog::info(
            "Engine 000: Avg prompt throughput: {:.1f} tokens/s, Avg generation throughput: {:.1f} "
            "tokens/s, Running: {} reqs, Waiting: {} reqs, GPU KV cache usage: {:.1f}%, Prefix "
            "cache hit rate: 0.0%",
            rate(before.prompt_tokens, now.prompt_tokens),
            rate(before.generation_tokens, now.generation_tokens), now.running, now.waiting,
            100 * now.kv_usage);
      log_stats(now);
    });
  }

  void run() {
    if (options.handle_signals) {
      signals.add(SIGINT);
      signals.add(SIGTERM);
      watch_signals();
    }
    if (options.log_stats_seconds > 0) log_stats(context.engine.stats());
    accept();
    io.run();
    pool.join();
    engine.drain(0);
  }

  const ServerOptions options;
  std::unique_ptr<asio::ssl::context> tls;
  Engine& engine;
  Context context;
  Router router;
  std::unordered_map<Connection*, std::weak_ptr<Connection>> connections;
  size_t bodies = 0;  // bytes reserved
  bool accepting = false, stopping = false;
  // What follows goes first, with handlers that refer to what is above.
  asio::io_context io{1};
  asio::thread_pool pool{kPoolThreads};
  tcp::acceptor acceptor;
  asio::signal_set signals{io};
  asio::steady_timer grace{io}, retry{io}, stats_timer{io};
};

Server::Server(Engine& engine, const text::Tokenizer& tokenizer,
               const text::ChatTemplate* chat_template, Metrics& metrics, ServerOptions options,
               Listener& listener)
    : impl_(std::make_unique<Impl>(engine, tokenizer, chat_template, metrics, std::move(options),
                                   listener)) {}
Server::~Server() = default;

void Server::run() { impl_->run(); }

void Server::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->stop(); });
}

uint16_t Server::port() const { return impl_->acceptor.local_endpoint().port(); }

std::string Server::url() const {
  const auto endpoint = impl_->acceptor.local_endpoint();
  const std::string host = endpoint.address().is_unspecified()
                               ? (endpoint.address().is_v6() ? "::1" : "127.0.0.1")
                               : endpoint.address().to_string();
  return fmt::format("{}://{}", impl_->tls ? "https" : "http", join_address(host, endpoint.port()));
}

}  // namespace octet::server
