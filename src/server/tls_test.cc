// The same server behind TLS, with a certificate made here.
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <algorithm>
#include <boost/asio/ssl.hpp>
#include <cstdio>
#include <string>

#include "src/server/testing.h"

namespace octet::server::tests {
namespace {

void write_certificate(const fs::path& key_file, const fs::path& certificate_file,
                       const std::string& host = "localhost") {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();
  ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate), 0);
  X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
  X509_set_pubkey(certificate, key);
  X509_NAME* name = X509_get_subject_name(certificate);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                             reinterpret_cast<const unsigned char*>(host.c_str()), -1, -1, 0);
  X509_set_issuer_name(certificate, name);
  X509_sign(certificate, key, EVP_sha256());
  std::FILE* file = std::fopen(key_file.c_str(), "w");
  PEM_write_PrivateKey(file, key, nullptr, nullptr, 0, nullptr, nullptr);
  std::fclose(file);
  file = std::fopen(certificate_file.c_str(), "w");
  PEM_write_X509(file, certificate);
  std::fclose(file);
  X509_free(certificate);
  EVP_PKEY_free(key);
}

// A connection of its own.
class TlsClient {
 public:
  explicit TlsClient(uint16_t port) {
    stream_.lowest_layer().connect({asio::ip::address_v4::loopback(), port});
    stream_.handshake(asio::ssl::stream_base::client);
  }
  // Of whom the server's certificate is.
  std::string host() {
    X509* certificate = SSL_get_peer_certificate(stream_.native_handle());
    if (certificate == nullptr) return "";
    std::string name(100, '\0');
    const int length = X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName,
                                                 name.data(), static_cast<int>(name.size()));
    X509_free(certificate);
    name.resize(static_cast<size_t>(std::max(length, 0)));
    return name;
  }
  unsigned get(const std::string& path) {
    http::request<http::empty_body> request(http::verb::get, path, 11);
    request.set(http::field::host, "a");
    http::write(stream_, request);
    http::response<http::string_body> response;
    http::read(stream_, buffer_, response);
    return response.result_int();
  }

 private:
  asio::io_context io_;
  asio::ssl::context context_{asio::ssl::context::tls_client};
  asio::ssl::stream<tcp::socket> stream_{io_, context_};
  boost::beast::flat_buffer buffer_;
};

// What SIGHUP does.
TEST_F(ServerTest, CertificatesAreReadAgain) {
  options_.keep_alive_seconds = 30;
  options_.tls.key_file = model_folder_.path() / "key.pem";
  options_.tls.certificate_file = model_folder_.path() / "certificate.pem";
  const auto write = [&](const char* host) {
    write_certificate(options_.tls.key_file, options_.tls.certificate_file, host);
  };
  write("first.example");
  start();
  TlsClient old(server_->port());
  EXPECT_EQ(old.host(), "first.example");
  EXPECT_EQ(old.get("/health"), 200u);
  write("second.example");
  EXPECT_EQ(TlsClient(server_->port()).host(), "first.example");  // not before it is asked to
  server_->reload();
  wait_until([&] { return TlsClient(server_->port()).host() == "second.example"; });
  EXPECT_EQ(old.get("/health"), 200u);
  // Files that do not fit change nothing.
  write_certificate(options_.tls.key_file, model_folder_.path() / "other.pem", "third.example");
  server_->reload();
  for (int i = 0; i < 3; ++i) {
    TlsClient client(server_->port());
    EXPECT_EQ(client.host(), "second.example");
    EXPECT_EQ(client.get("/health"), 200u);
  }
}

TEST_F(ServerTest, Tls) {
  allow_long_requests();
  options_.tls.key_file = model_folder_.path() / "key.pem";
  options_.tls.certificate_file = model_folder_.path() / "certificate.pem";
  EXPECT_THROW(start(), Error);  // no such files
  write_certificate(options_.tls.key_file, options_.tls.certificate_file);
  start();
  EXPECT_EQ(server_->url().rfind("https://127.0.0.1:", 0), 0u);

  asio::io_context io;
  asio::ssl::context context(asio::ssl::context::tls_client);
  asio::ssl::stream<tcp::socket> stream(io, context);
  stream.lowest_layer().connect({asio::ip::address_v4::loopback(), server_->port()});
  stream.handshake(asio::ssl::stream_base::client);
  boost::beast::flat_buffer buffer;
  for (bool streamed : {false, true}) {  // on one connection
    http::request<http::string_body> request(http::verb::post, "/v1/completions", 11);
    request.set(http::field::host, "a");
    request.set(http::field::content_type, "application/json");
    request.body() = ordered_json({{"prompt", "Hi"}, {"stream", streamed}}).dump();
    request.prepare_payload();
    http::write(stream, request);
    http::response<http::string_body> response;
    http::read(stream, buffer, response);
    EXPECT_EQ(response.result_int(), 200u);
    EXPECT_EQ(response.body().find("[DONE]") != std::string::npos, streamed);
  }
  // Speaking plain HTTP to it ends that connection only.
  Client plain = connect();
  plain.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
  while (!plain.receive_some().empty()) continue;
  // A client that goes away is noticed here too.
  http::request<http::string_body> request(http::verb::post, "/v1/completions", 11);
  request.set(http::field::host, "a");
  request.set(http::field::content_type, "application/json");
  request.body() = R"({"prompt": "Hi", "max_tokens": 4000, "n": 16, "ignore_eos": true})";
  request.prepare_payload();
  http::write(stream, request);
  for (int i = 0; i < 500 && engine_->stats().running == 0; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  stream.lowest_layer().close();
  wait_until([&] { return engine_->stats().running + engine_->stats().waiting == 0; });
}

}  // namespace
}  // namespace octet::server::tests
