// Where and within which limits the server speaks HTTP.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace octet::server {

struct TlsOptions {
  std::string key_file, certificate_file;  // both, or neither: plain HTTP
  std::string ca_file;                     // for the certificates of clients
  bool require_client_certificate = false;
};

struct HttpOptions {
  std::string host;      // a name or address; empty: all IPv4 interfaces
  uint16_t port = 8000;  // 0: a free one
  TlsOptions tls;

  size_t max_connections = 4096;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{32} << 20;
  size_t max_bodies_bytes = size_t{512} << 20;  // of all requests being read or answered
  size_t max_unsent_bytes = size_t{4} << 20;    // a stream further ahead of its reader waits
  double keep_alive_seconds = 5;                // between requests
  double read_seconds = 60;                     // for one request to arrive
  double write_seconds = 60;                    // for a client to take the next piece of an answer
  double shutdown_grace_seconds = 30;           // for requests to finish after stop()
};

}  // namespace octet::server
