// What a client may send before and between requests: one server for all inputs, one connection an
// input.
#include <boost/asio/connect.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <thread>

#include "src/server/http/http_server.h"

namespace {

using namespace octet::server;

struct EchoServer {
  EchoServer() {
    http.accept();
    thread = std::thread([this] { run_until_stopped(io); });
  }
  ~EchoServer() {
    io.stop();
    thread.join();
  }
  static HttpOptions make_options() {
    HttpOptions options;
    options.host = "127.0.0.1";
    options.port = 0;
    options.read_seconds = 1;
    options.max_body_bytes = 4096;
    return options;
  }

  const HttpOptions options = make_options();
  Listener listener{options};
  asio::io_context io{1};
  HttpServer http{io, options, listener.take(io),
                  [](std::shared_ptr<Exchange> x) {
                    x->respond({200, "", x->request().body(), {}});
                  },
                  [](const HttpRequest& header) { return header.target().size() > 64; }};
  std::thread thread;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static EchoServer server;
  asio::io_context io;
  tcp::socket socket(io);
  boost::system::error_code ec;
  socket.connect({asio::ip::make_address("127.0.0.1"), server.http.port()}, ec);
  if (ec) std::abort();
  asio::write(socket, asio::buffer(data, size), ec);
  socket.shutdown(tcp::socket::shutdown_send, ec);
  std::string answer;
  asio::read(socket, asio::dynamic_buffer(answer), ec);  // until it closes
  if (!answer.empty() && !answer.starts_with("HTTP/1.1 ")) std::abort();
  return 0;
}
