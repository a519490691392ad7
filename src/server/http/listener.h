// The listening socket and the TLS files, made before a model is loaded: what is wrong with them is
// reported at once instead of minutes later.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "src/server/http/options.h"

namespace octet::server {

// Clients that come before anybody accepts them wait in the system's queue.
class Listener {
 public:
  // Throws Error when the address cannot be bound (naming host:port), kUsage Error for an unknown
  // host or unusable TLS files.
  explicit Listener(const HttpOptions& options);

  // What one server listens on.
  struct Socket {
    boost::asio::ip::tcp::acceptor acceptor;
    std::shared_ptr<boost::asio::ssl::context> tls;  // null: plain HTTP
  };
  // The same socket once more, for who listens until the server does.
  Socket lend(boost::asio::io_context& io);
  // The socket itself, once: from then on the server alone holds it, and closes it.
  Socket take(boost::asio::io_context& io);

 private:
  boost::asio::io_context io_;
  boost::asio::ip::tcp::acceptor acceptor_{io_};
  std::shared_ptr<boost::asio::ssl::context> tls_;
};

// From the files of `options`; null: plain HTTP. Throws kUsage Error for unusable files.
std::shared_ptr<boost::asio::ssl::context> load_tls(const TlsOptions& options);

// "127.0.0.1:8000", "[::1]:8000".
std::string join_address(const std::string& host, uint16_t port);

}  // namespace octet::server
