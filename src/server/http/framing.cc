#include "src/server/http/framing.h"

#include <boost/beast/core/string.hpp>
#include <iterator>

namespace octet::server {

std::optional<ApiError> framing_fault(const HttpRequest& header) {
  const auto [coding, end] = header.equal_range(http::field::transfer_encoding);
  if (coding != end) {
    if (header.version() < 11) return http_error(400, "HTTP/1.0 has no Transfer-Encoding");
    if (std::next(coding) != end || !boost::beast::iequals(coding->value(), "chunked"))
      return http_error(501, "the only Transfer-Encoding is chunked");
  }
  const size_t hosts = header.count(http::field::host);
  if (hosts > 1 || (hosts == 0 && header.version() >= 11))
    return http_error(400, "a request has one Host");
  return std::nullopt;
}

}  // namespace octet::server
