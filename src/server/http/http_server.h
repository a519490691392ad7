// Accepts connections within limits and hands their requests to one handler: what the server and
// its stand-in share.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "src/server/http/connection.h"
#include "src/server/http/exchange.h"
#include "src/server/http/listener.h"
#include "src/server/http/options.h"

namespace octet::server {

// Runs `io` until it is stopped, whatever a handler throws: out of memory in one request is no
// reason to end the others.
void run_until_stopped(asio::io_context& io);

// For the thread that runs `io`.
class HttpServer final : private ConnectionOwner {
 public:
  using Handler = std::function<void(std::shared_ptr<Exchange>)>;
  // Whether the handler answers a request at once with an error, whatever its body is.
  using Refuses = std::function<bool(const HttpRequest& header)>;

  // Connections are served once accept() is called. `options` must outlive `io`.
  HttpServer(asio::io_context& io, const HttpOptions& options, Listener::Socket socket,
             Handler handler, Refuses refuses);

  void accept();
  // Lets requests finish within the grace time, answers what new connections ask once each, and
  // stops `io` when there are none left. After the grace time it calls `end_work`, which is to fail
  // all requests, and gives clients a moment to read why. A second call ends them at once.
  void close(std::function<void()> end_work);
  // Requests that the end of the grace time, or a second close(), has cut off.
  size_t cut_off() const { return cut_off_; }
  uint64_t handled() const { return handled_; }  // requests so far
  // For connections from now on.
  void use_tls(std::shared_ptr<asio::ssl::context> tls) { socket_.tls = std::move(tls); }

  std::string url() const;  // http://127.0.0.1:8000
  uint16_t port() const { return socket_.acceptor.local_endpoint().port(); }

 private:
  void handle(std::shared_ptr<Exchange> exchange) override {
    ++handled_;
    handler_(std::move(exchange));
  }
  bool refuses(const HttpRequest& header) override { return refuses_(header); }
  void closed(Connection* connection) override;
  bool reserve(size_t bytes) override;
  void release(size_t bytes) override { bodies_ -= bytes; }
  void begin(tcp::socket socket);
  void abort();
  void finish();
  size_t busy() const;
  std::vector<std::shared_ptr<Connection>> connections() const;

  asio::io_context& io_;
  const HttpOptions& options_;
  const Handler handler_;
  const Refuses refuses_;
  std::unordered_map<Connection*, std::weak_ptr<Connection>> connections_;
  size_t bodies_ = 0;  // bytes reserved
  size_t cut_off_ = 0;
  uint64_t handled_ = 0;
  bool accepting_ = false, closing_ = false;
  Listener::Socket socket_;
  asio::steady_timer grace_, retry_;
};

}  // namespace octet::server
