#include "src/server/server.h"

#include <malloc.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <optional>
#include <utility>

#include "src/base/error.h"
#include "src/server/http/http_server.h"
#include "src/server/router.h"

namespace octet::server {
namespace {

using boost::system::error_code;

constexpr size_t kPoolThreads = 2;
constexpr auto kReturnMemoryEvery = std::chrono::seconds(5);

}  // namespace

struct Server::Impl {
  Impl(const Backend& backend, ServerOptions options_, Listener& listener)
      : options(std::move(options_)),
        context{backend, options, io, pool, large, counting, {}},
        router(context),
        http(
            io, options, listener.take(io),
            [this](ExchangePtr exchange) { router.handle(std::move(exchange)); },
            [this](const HttpRequest& header) { return router.refuses(header); }) {
    OCTET_CHECK(!options.served_model_names.empty());
  }

  // The engine must have let go of every request before what requests refer to goes.
  ~Impl() {
    finish_requests();
    if (options.handle_signals) leave_signals();
  }

  // A process that frees its model ends by the same signals: with the watcher their default, to
  // kill, would be back.
  void leave_signals() {
    try {
      asio::post(watcher, [this] { signals.reset(); });
      watcher.join();
    } catch (const std::exception&) {
      return;  // no memory to ask the watcher; it keeps them to the end
    }
    ::signal(SIGHUP, SIG_IGN);
    for (const int ending : {SIGINT, SIGTERM}) ::signal(ending, [](int) { ::_exit(1); });
  }

  void finish_requests() {
    pool.join();
    large.join();
    counting.join();
    context.engine.drain(0);
  }

  void watch_signals() {
    signals->async_wait([this](error_code ec, int signal) {
      if (ec || !signals) return;
      if (signal == SIGHUP)
        asio::post(io, [this] { reload(); });
      else
        stop_by_signal();
      watch_signals();
    });
  }

  // On the watcher's thread, which has nothing else to do: the end must not wait for the I/O thread
  // or the pool, whatever they are busy with, nor for one that is there no more.
  void stop_by_signal() {
    const bool again = stopping.exchange(true, std::memory_order_relaxed);
    if (again && options.end_at_once) options.end_at_once();
    asio::post(io, [this] { stop(); });
  }

  // First call: no new work, and a limit for the old. Second: the end.
  void stop() {
    stopping.store(true, std::memory_order_relaxed);
    router.close();
    http.close([this] { context.engine.fail_all("the server stops"); });
  }

  // What is wrong with the files changes nothing.
  void reload() {
    try {
      const std::vector<std::string> keys = all_keys(options.api_keys, options.api_key_file);
      http.use_tls(load_tls(options.tls));
      router.use_keys(keys);
      spdlog::info("SIGHUP: keys and certificates are read again");
    } catch (const std::exception& e) {
      spdlog::error("SIGHUP: {}; keys and certificates stay as they were", e.what());
    }
  }

  // A line of figures while there is work, as scripts expect it.
  void log_stats(EngineStats before) {
    stats_timer.expires_after(
        std::chrono::milliseconds(static_cast<int64_t>(options.log_stats_seconds * 1000)));
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

  // Large requests leave the allocator with memory that the system could use; it goes back when
  // nothing is under way.
  void return_memory(uint64_t served_before) {
    memory_timer.expires_after(kReturnMemoryEvery);
    memory_timer.async_wait([this, served_before](error_code ec) {
      if (ec) return;
      const bool idle = context.load.load(std::memory_order_relaxed) == 0;
      const uint64_t served = http.handled();
      if (idle && served != served_before) ::malloc_trim(0);
      return_memory(idle ? served : served_before);
    });
  }

  size_t run() {
    if (options.handle_signals) {
      signals->add(SIGINT);
      signals->add(SIGTERM);
      struct sigaction hang_up = {};  // ignored under nohup
      if (::sigaction(SIGHUP, nullptr, &hang_up) == 0 && hang_up.sa_handler != SIG_IGN)
        signals->add(SIGHUP);
      watch_signals();
    }
    if (options.log_stats_seconds > 0) log_stats(context.engine.stats());
    return_memory(0);
    http.accept();
    run_until_stopped(io);
    finish_requests();
    return http.cut_off();
  }

  const ServerOptions options;
  std::atomic<bool> stopping{false};  // a flag by itself: no other data goes with it
  Context context;
  Router router;
  // What follows goes first, with handlers that refer to what is above.
  asio::io_context io{1};
  asio::thread_pool pool{kPoolThreads}, large{kPoolThreads}, counting{1};
  HttpServer http;
  asio::steady_timer stats_timer{io}, memory_timer{io};
  asio::thread_pool watcher{1};  // until the very end: run() may wait long for the pool
  std::optional<asio::signal_set> signals{std::in_place, watcher};
};

Server::Server(const Backend& backend, ServerOptions options, Listener& listener)
    : impl_(std::make_unique<Impl>(backend, std::move(options), listener)) {}
Server::~Server() = default;

size_t Server::run() { return impl_->run(); }

void Server::stop() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->stop(); });
}

void Server::reload() {
  asio::post(impl_->io, [impl = impl_.get()] { impl->reload(); });
}

uint16_t Server::port() const { return impl_->http.port(); }

std::string Server::url() const { return impl_->http.url(); }

}  // namespace octet::server
