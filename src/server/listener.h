// The listening socket and the TLS files, made before a model is loaded: what is wrong with them is
// told at once instead of minutes later.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "src/server/server.h"

namespace octet::server {

// Clients that come before Server::run() wait in the system's queue.
class Listener {
 public:
  // Throws Error when the address cannot be bound (naming host:port), kUsage Error for an unknown
  // host or unusable TLS files.
  explicit Listener(const ServerOptions& options);

  // The same socket once more, for who listens until the server does.
  boost::asio::ip::tcp::acceptor lend_acceptor(boost::asio::io_context& io);
  boost::asio::ssl::context* tls() { return tls_.get(); }
  // What the server takes over, each once.
  boost::asio::ip::tcp::acceptor take_acceptor(boost::asio::io_context& io);
  std::unique_ptr<boost::asio::ssl::context> take_tls() { return std::move(tls_); }

 private:
  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_{io_};
  std::unique_ptr<boost::asio::ssl::context> tls_;  // null: plain HTTP
};

// "127.0.0.1:8000", "[::1]:8000".
std::string join_address(const std::string& host, uint16_t port);

}  // namespace octet::server
