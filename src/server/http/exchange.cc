#include "src/server/http/exchange.h"

#include "src/server/http/errors.h"

namespace octet::server {

void throw_if_gone(const Exchange& exchange) {
  if (exchange.gone()) throw ClientGone();
}

HttpResponse error_response(const std::exception& e) {
  const ApiError error = to_api_error(e);
  HttpResponse response{error.status(), "application/json", dump(error.json()), {}};
  if (error.status() == 503) response.headers.emplace_back("Retry-After", "1");
  return response;
}

void respond_error(Exchange& exchange, const std::exception& error) {
  try {
    exchange.respond(error_response(error));
  } catch (const std::exception&) {
    exchange.abort();
  }
}

void respond_json(Exchange& exchange, const ordered_json& body) {
  exchange.respond({200, "application/json", dump(body), {}});
}

}  // namespace octet::server
