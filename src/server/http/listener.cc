#include "src/server/http/listener.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>

#include "src/base/error.h"

namespace octet::server {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

tcp::endpoint resolve(asio::io_context& io, const std::string& host, uint16_t port) {
  if (host.empty()) return {tcp::v4(), port};
  error_code ec;
  const auto found = tcp::resolver(io).resolve(host, std::to_string(port), ec);
  if (ec || found.empty())
    throw usage_error(fmt::format("cannot find the host {}: {}", host, ec.message()))
        .field("--host");
  return found.begin()->endpoint();
}

}  // namespace

std::shared_ptr<asio::ssl::context> load_tls(const TlsOptions& options) {
  if (options.key_file.empty() && options.certificate_file.empty()) return nullptr;
  auto tls = std::make_shared<asio::ssl::context>(asio::ssl::context::tls_server);
  tls->set_options(asio::ssl::context::no_tlsv1 | asio::ssl::context::no_tlsv1_1);
  error_code ec;
  const auto throw_if_failed = [&](const char* what, const std::string& file) {
    if (ec)
      throw usage_error(fmt::format("cannot use the TLS {}: {}", what, ec.message())).file(file);
  };
  tls->use_certificate_chain_file(options.certificate_file, ec);
  throw_if_failed("certificate", options.certificate_file);
  tls->use_private_key_file(options.key_file, asio::ssl::context::pem, ec);
  throw_if_failed("key", options.key_file);
  if (!options.ca_file.empty()) {
    tls->load_verify_file(options.ca_file, ec);
    throw_if_failed("CA file", options.ca_file);
  }
  if (options.require_client_certificate)
    tls->set_verify_mode(asio::ssl::verify_peer | asio::ssl::verify_fail_if_no_peer_cert);
  return tls;
}

Listener::Listener(const HttpOptions& options) : tls_(load_tls(options.tls)) {
  const tcp::endpoint endpoint = resolve(io_, options.host, options.port);
  error_code ec;
  acceptor_.open(endpoint.protocol(), ec);
  if (!ec) acceptor_.set_option(asio::socket_base::reuse_address(true), ec);
  if (!ec) acceptor_.bind(endpoint, ec);
  if (!ec) acceptor_.listen(asio::socket_base::max_listen_connections, ec);
  if (ec)
    throw Error(fmt::format("cannot listen on {}: {}",
                            join_address(endpoint.address().to_string(), options.port),
                            ec.message()))
        .remedy("choose another --port or --host, or end the program that uses it");
}

Listener::Socket Listener::lend(asio::io_context& io) {
  const int copy = ::fcntl(acceptor_.native_handle(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw Error(fmt::format("cannot listen: {}", std::strerror(errno)));
  return {tcp::acceptor(io, acceptor_.local_endpoint().protocol(), copy), tls_};
}

Listener::Socket Listener::take(asio::io_context& io) {
  const auto protocol = acceptor_.local_endpoint().protocol();
  return {tcp::acceptor(io, protocol, acceptor_.release()), tls_};
}

std::string join_address(const std::string& host, uint16_t port) {
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

}  // namespace octet::server
