// Requests of which it is uncertain where their body ends or whom they are for (RFC 9112): a server
// and a proxy that read them differently can be made to take a body for a request.
#pragma once

#include <optional>

#include "src/server/http/errors.h"
#include "src/server/http/exchange.h"

namespace octet::server {

// What is wrong with the header, so that it must be refused and the connection closed: a transfer
// coding other than chunked (501), any in HTTP/1.0, no Host in HTTP/1.1, two Hosts, one that is
// neither a host nor a host and a port (400).
std::optional<ApiError> framing_fault(const HttpRequest& header);

}  // namespace octet::server
