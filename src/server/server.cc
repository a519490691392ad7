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
#include "src/server/router.h"

namespace octet::server {
namespace {

using boost::system::error_code;

constexpr size_t kPoolThreads = 2;
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);  // when out of file descriptors

std::chrono::milliseconds milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

std::string join(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

tcp::endpoint resolve(asio::io_context& io, const std::string& host, uint16_t port) {
  if (host.empty()) return {tcp::v4(), port};
  error_code ec;
  const auto found = tcp::resolver(io).resolve(host, std::to_string(port), ec);
  if (ec || found.empty())
    throw usage_error(fmt::format("cannot find the host {}: {}", host, ec.message()))
        .field("--host");
  return found.begin()->endpoint();
}

std::unique_ptr<asio::ssl::context> make_tls(const TlsOptions& options) {
  if (options.key_file.empty() && options.certificate_file.empty()) return nullptr;
  auto tls = std::make_unique<asio::ssl::context>(asio::ssl::context::tls_server);
  tls->set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  error_code ec;
  const auto check = [&](const char* what, const std::string& file) {
    if (ec)
      throw usage_error(fmt::format("cannot use the TLS {}: {}", what, ec.message())).file(file);
  };
  tls->use_certificate_chain_file(options.certificate_file, ec);
  check("certificate", options.certificate_file);
  tls->use_private_key_file(options.key_file, asio::ssl::context::pem, ec);
  check("key", options.key_file);
  if (!options.ca_file.empty()) {
    tls->load_verify_file(options.ca_file, ec);
    check("CA file", options.ca_file);
  }
  if (options.require_client_certificate)
    tls->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
  return tls;
}

}  // namespace

struct Server::Impl final : ConnectionOwner {
  Impl(Engine& engine_, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
       Metrics& metrics, ServerOptions options_)
      : options(std::move(options_)),
        tls(make_tls(options.tls)),
        engine(engine_),
        context{engine, tokenizer, chat_template, metrics, options, io, pool, {}},
        router(context) {
    OCTET_CHECK(!options.served_model_names.empty());
    listen();
  }

  // The engine must have let go of every request before what requests refer to goes.
  ~Impl() override {
    pool.join();
    engine.drain(0);
  }

  void listen() {
    const tcp::endpoint endpoint = resolve(io, options.host, options.port);
    error_code ec;
    acceptor.open(endpoint.protocol(), ec);
    if (!ec) acceptor.set_option(asio::socket_base::reuse_address(true), ec);
    if (!ec) acceptor.bind(endpoint, ec);
    if (!ec) acceptor.listen(asio::socket_base::max_listen_connections, ec);
    if (ec)
      throw Error(fmt::format("cannot listen on {}: {}",
                              join(endpoint.address().to_string(), options.port), ec.message()))
          .remedy("choose another --port or --host, or end the program that uses it");
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
  tcp::acceptor acceptor{io};
  asio::signal_set signals{io};
  asio::steady_timer grace{io}, retry{io}, stats_timer{io};
};

Server::Server(Engine& engine, const text::Tokenizer& tokenizer,
               const text::ChatTemplate* chat_template, Metrics& metrics, ServerOptions options)
    : impl_(std::make_unique<Impl>(engine, tokenizer, chat_template, metrics, std::move(options))) {
}
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
  return fmt::format("{}://{}", impl_->tls ? "https" : "http", join(host, endpoint.port()));
}

}  // namespace octet::server
