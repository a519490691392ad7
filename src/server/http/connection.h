// One client's connection: HTTP/1.x with keep-alive, limits and time limits, plain or TLS.
#pragma once

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <memory>

#include "src/server/http/exchange.h"
#include "src/server/http/options.h"

namespace octet::server {

namespace asio = boost::asio;
using asio::ip::tcp;

class Connection : public Exchange {
 public:
  virtual void start() = 0;
  // Closes once the answer under way is complete; at once when there is none.
  virtual void close_when_idle() = 0;
  // Closes behind the next answer, for a connection that comes while the server stops.
  virtual void close_after_answer() = 0;
  // Whether a request is being answered.
  virtual bool busy() const = 0;
};

// Who owns the connections; called on the I/O thread.
class ConnectionOwner {
 public:
  virtual ~ConnectionOwner() = default;
  virtual void handle(std::shared_ptr<Exchange> exchange) = 0;
  // Whether handle() answers at once with an error, whatever the body is; then it is not read.
  virtual bool refuses(const HttpRequest& header) = 0;
  virtual void closed(Connection* connection) = 0;
  // Bytes of bodies that have arrived, of all connections; reserve() is false when there is no
  // room.
  virtual bool reserve(size_t bytes) = 0;
  virtual void release(size_t bytes) = 0;
};

// `tls` null: plain. Options and owner must outlive the connection.
std::shared_ptr<Connection> make_connection(tcp::socket socket, asio::ssl::context* tls,
                                            const HttpOptions& options, ConnectionOwner& owner);

}  // namespace octet::server
