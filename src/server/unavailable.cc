#include "src/server/unavailable.h"

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <thread>
#include <utility>

#include "src/server/connection.h"
#include "src/server/errors.h"
#include "src/server/listener.h"
#include "src/server/router.h"

namespace octet::server {
namespace {

using boost::system::error_code;

constexpr auto kAcceptRetry = std::chrono::milliseconds(100);  // when out of file descriptors

}  // namespace

struct Unavailable::Impl final : ConnectionOwner {
  Impl(Listener& listener, const ServerOptions& options_, std::string message_)
      : options(options_),
        message(std::move(message_)),
        tls(listener.tls()),
        acceptor(listener.lend_acceptor(io)) {
    accept();
    thread = std::thread([this] { io.run(); });
  }

  ~Impl() override {
    io.stop();
    thread.join();
  }

  void accept() {
    acceptor.async_accept([this](error_code ec, tcp::socket socket) {
      if (!ec) make_connection(std::move(socket), tls, options, *this)->start();
      retry.expires_after(ec ? kAcceptRetry : kAcceptRetry.zero());
      retry.async_wait([this](error_code) { accept(); });
    });
  }

  void handle(std::shared_ptr<Exchange> exchange) override {
    respond_error(*exchange, http_error(503, message));
  }
  void closed(Connection*) override {}
  bool reserve(size_t bytes) override {
    if (bytes > options.max_bodies_bytes - bodies) return false;
    bodies += bytes;
    return true;
  }
  void release(size_t bytes) override { bodies -= bytes; }

  const ServerOptions options;
  const std::string message;
  asio::ssl::context* const tls;
  size_t bodies = 0;  // bytes reserved
  std::thread thread;
  // What follows goes first, with handlers that refer to what is above.
  asio::io_context io{1};
  tcp::acceptor acceptor;
  asio::steady_timer retry{io};
};

Unavailable::Unavailable(Listener& listener, const ServerOptions& options, std::string message)
    : impl_(std::make_unique<Impl>(listener, options, std::move(message))) {}
Unavailable::~Unavailable() = default;

}  // namespace octet::server
