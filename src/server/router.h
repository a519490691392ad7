// Which handler answers which request, and what comes before any handler: keys, CORS, request ids.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "src/server/api/context.h"
#include "src/server/http/auth.h"
#include "src/server/http/exchange.h"

namespace octet::server {

using ExchangePtr = std::shared_ptr<Exchange>;

// Lives on the I/O thread, as long as the server.
class Router {
 public:
  explicit Router(Context& context);

  void handle(ExchangePtr exchange);
  // Whether handle() answers at once with an error, whatever the request's body is.
  bool refuses(const HttpRequest& header) const;
  // From now on generation is refused and /health says 503.
  void close() { closed_ = true; }
  // In place of those of the options.
  void use_keys(const std::vector<std::string>& keys) { keys_ = KeyRing(keys); }

 private:
  using Handler = std::function<void(ExchangePtr)>;
  struct Route {
    std::map<std::string, Handler, std::less<>> methods;
    bool guarded = false;  // needs a key
  };
  // What a request is about, told by its target alone, never by its Host.
  struct Target {
    std::string path;  // without query and root path
    const Route* route = nullptr;
    std::string_view name = "none";  // of the route, for metrics
    std::string elsewhere;  // the target without the slash at its end, where that is a route
  };

  void add_route(const std::string& method, const std::string& path, bool guarded, Handler handler);
  Target find_route(std::string_view target) const;
  void record_when_done(Exchange& exchange, const Target& target);
  bool admitted(const HttpRequest& header, const Target& target) const;
  // The error, or the way to the right path, that needs no handler.
  std::optional<HttpResponse> refusal(const HttpRequest& header, const Target& target) const;
  void add_common_headers(Exchange& exchange) const;
  void preflight(Exchange& exchange, const Target& target) const;

  // Runs `work`, which may throw, on the pool, or on `large` if the request's body is, unless the
  // client goes before; errors are answered.
  template <class Work>
  void on_pool(boost::asio::thread_pool& large, const ExchangePtr& exchange, Work work);
  void abort_soon(const ExchangePtr& exchange);
  // Runs `make` on a pool with the parsed body and answers with its JSON.
  using MakeJson = ordered_json (*)(const Context&, const ordered_json& body,
                                    const std::function<void()>& go_on);
  void answer_json(const ExchangePtr& exchange, MakeJson make);
  void generate(const ExchangePtr& exchange, std::optional<bool> chat);
  void health(Exchange& exchange) const;

  Context& context_;
  KeyRing keys_;
  std::map<std::string, Route, std::less<>> routes_;
  bool closed_ = false;
};

}  // namespace octet::server
