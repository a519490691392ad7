#include "src/server/http/framing.h"

#include <arpa/inet.h>

#include <boost/beast/core/string.hpp>
#include <iterator>
#include <string>
#include <string_view>

namespace octet::server {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }

// reg-name of RFC 3986, 3.2.2, which may be empty; IPv4 addresses are some of them.
bool is_name(std::string_view text) {
  constexpr std::string_view kMarks = "-._~!$&'()*+,;=";
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || !is_hex(text[i + 1]) || !is_hex(text[i + 2])) return false;
      i += 2;
    } else if (!is_hex(c) && !(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') &&
               kMarks.find(c) == kMarks.npos) {
      return false;
    }
  }
  return true;
}

// uri-host [ ":" port ]; of what may stand in brackets an IPv6 address only.
bool is_host(std::string_view text) {
  std::string_view host, rest;
  if (text.starts_with('[')) {
    const size_t end = text.find(']');
    if (end == text.npos) return false;
    in6_addr address;
    if (::inet_pton(AF_INET6, std::string(text.substr(1, end - 1)).c_str(), &address) != 1)
      return false;
    rest = text.substr(end + 1);
  } else {
    host = text.substr(0, text.find(':'));
    rest = text.substr(host.size());
  }
  if (!is_name(host)) return false;
  if (rest.empty()) return true;
  if (rest[0] != ':') return false;
  for (const char c : rest.substr(1))
    if (!is_digit(c)) return false;
  return true;
}

}  // namespace

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
  if (hosts == 1 && !is_host(header[http::field::host]))
    return http_error(400, "the Host is not a host, or a host and a port");
  return std::nullopt;
}

}  // namespace octet::server
