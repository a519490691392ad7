#include "src/server/unavailable.h"

#include <thread>
#include <utility>

#include "src/server/http/errors.h"
#include "src/server/http/http_server.h"

namespace octet::server {

struct Unavailable::Impl {
  Impl(Listener& listener, const HttpOptions& options_, std::string message)
      : options(options_),
        http(
            io, options, listener.lend(io),
            [message = std::move(message)](std::shared_ptr<Exchange> exchange) {
              respond_error(*exchange, http_error(503, message));
            },
            [](const HttpRequest&) { return true; }) {
    http.accept();
    thread = std::thread([this] { run_until_stopped(io); });
  }

  ~Impl() {
    io.stop();
    thread.join();
  }

  const HttpOptions options;
  asio::io_context io{1};
  HttpServer http;
  std::thread thread;
};

Unavailable::Unavailable(Listener& listener, const HttpOptions& options, std::string message)
    : impl_(std::make_unique<Impl>(listener, options, std::move(message))) {}
Unavailable::~Unavailable() = default;

}  // namespace octet::server
