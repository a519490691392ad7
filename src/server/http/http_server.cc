#include "src/server/http/http_server.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace octet::server {
namespace {

using boost::system::error_code;

constexpr auto kLastWords = std::chrono::seconds(2);
constexpr auto kAcceptRetry = std::chrono::milliseconds(100);  // when out of file descriptors

}  // namespace

void run_until_stopped(asio::io_context& io) {
  while (!io.stopped()) {
    try {
      io.run();
    } catch (const std::exception& e) {
      spdlog::error("a handler of the server failed: {}", e.what());
    }
  }
}

HttpServer::HttpServer(asio::io_context& io, const HttpOptions& options, Listener::Socket socket,
                       Handler handler, Refuses refuses)
    : io_(io),
      options_(options),
      handler_(std::move(handler)),
      refuses_(std::move(refuses)),
      socket_(std::move(socket)),
      grace_(io),
      retry_(io) {}

void HttpServer::accept() {
  if (accepting_ || io_.stopped() || connections_.size() >= options_.max_connections) return;
  accepting_ = true;
  socket_.acceptor.async_accept([this](error_code ec, tcp::socket socket) {
    accepting_ = false;
    if (ec) {
      retry_.expires_after(kAcceptRetry);
      retry_.async_wait([this](error_code canceled) {
        if (!canceled) accept();
      });
      return;
    }
    try {
      begin(std::move(socket));
    } catch (const std::exception& e) {  // out of memory: this client goes, others may come
      spdlog::error("a connection could not begin: {}", e.what());
    }
    accept();
  });
}

void HttpServer::begin(tcp::socket socket) {
  const auto connection = make_connection(std::move(socket), socket_.tls.get(), options_, *this);
  connections_.emplace(connection.get(), connection);
  try {
    connection->start();
  } catch (...) {
    connections_.erase(connection.get());
    throw;
  }
  if (closing_) connection->close_after_answer();
}

void HttpServer::closed(Connection* connection) {
  connections_.erase(connection);
  if (closing_ && connections_.empty()) return finish();
  accept();
}

bool HttpServer::reserve(size_t bytes) {
  if (bytes > options_.max_bodies_bytes - bodies_) return false;
  bodies_ += bytes;
  return true;
}

void HttpServer::close(std::function<void()> end_work) {
  if (std::exchange(closing_, true)) return abort();
  spdlog::info("stopping: waiting up to {} s for {} connections", options_.shutdown_grace_seconds,
               connections_.size());
  for (const auto& connection : connections()) connection->close_when_idle();
  if (connections_.empty()) return finish();
  grace_.expires_after(
      std::chrono::milliseconds(static_cast<int64_t>(options_.shutdown_grace_seconds * 1000)));
  grace_.async_wait([this, end_work = std::move(end_work)](error_code ec) {
    if (ec) return;
    cut_off_ = busy();
    end_work();
    grace_.expires_after(kLastWords);
    grace_.async_wait([this](error_code canceled) {
      if (!canceled) abort();
    });
  });
}

void HttpServer::abort() {
  cut_off_ = std::max(cut_off_, busy());
  for (const auto& connection : connections()) connection->abort();
  finish();
}

void HttpServer::finish() {
  error_code ignored;
  socket_.acceptor.close(ignored);
  io_.stop();
}

size_t HttpServer::busy() const {
  const auto all = connections();
  return static_cast<size_t>(std::ranges::count_if(all, [](const auto& c) { return c->busy(); }));
}

std::vector<std::shared_ptr<Connection>> HttpServer::connections() const {
  std::vector<std::shared_ptr<Connection>> all;
  for (const auto& [key, weak] : connections_)
    if (auto connection = weak.lock()) all.push_back(std::move(connection));
  return all;
}

std::string HttpServer::url() const {
  const auto endpoint = socket_.acceptor.local_endpoint();
  const std::string host = endpoint.address().is_unspecified()
                               ? (endpoint.address().is_v6() ? "::1" : "127.0.0.1")
                               : endpoint.address().to_string();
  return fmt::format("{}://{}", socket_.tls ? "https" : "http",
                     join_address(host, endpoint.port()));
}

}  // namespace octet::server
