// A request without a connection, which keeps the answer.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "src/base/json.h"
#include "src/server/http/exchange.h"

namespace octet::server::tests {

class RecordedExchange final : public Exchange {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;

  RecordedExchange(std::string_view method, std::string_view target, std::string body = "",
                   const Headers& headers = {{"Content-Type", "application/json"}}) {
    request_.method_string(method);
    request_.target(target);
    request_.body() = std::move(body);
    for (const auto& [name, value] : headers) request_.set(name, value);
  }

  const HttpRequest& request() const override { return request_; }
  std::string peer() const override { return "127.0.0.1:40000"; }
  void respond(HttpResponse response) override {
    if (no_memory_) throw std::bad_alloc();
    const size_t bytes = response.body.size();
    end(std::move(response), bytes);
  }
  void begin_stream(std::string_view content_type) override { stream_type_ = content_type; }
  void write(std::string_view data) override { streamed_ += data; }
  bool congested() const override { return congested_; }
  void end_stream() override { end({200, stream_type_, streamed_, {}}, 0); }
  void abort() override { go(); }
  bool gone() const override { return gone_; }

  void run_out_of_memory() { no_memory_ = true; }

  // What the client does.
  void take_nothing() { congested_ = true; }
  void take_again() {
    congested_ = false;
    if (const auto callback = std::exchange(on_writable_, nullptr)) callback();
  }
  void go() {
    gone_ = true;
    if (const auto callback = std::exchange(on_gone_, nullptr)) callback();
  }

  // Nothing until the answer is complete.
  const std::optional<HttpResponse>& response() const { return response_; }
  const std::string& streamed() const { return streamed_; }
  ordered_json json() const { return ordered_json::parse(response_->body); }
  // Of the handler's own headers and those that any answer gets; empty when there is none.
  std::string header(std::string_view name) const {
    for (const auto* list : {&response_->headers, &headers_})
      for (const auto& [key, value] : *list)
        if (key == name) return value;
    return "";
  }

 private:
  void end(HttpResponse response, size_t bytes) {
    response_ = std::move(response);
    on_gone_ = nullptr;
    if (const auto callback = std::exchange(on_done_, nullptr)) callback(response_->status, bytes);
  }

  HttpRequest request_;
  std::optional<HttpResponse> response_;
  std::string stream_type_, streamed_;
  bool congested_ = false, gone_ = false, no_memory_ = false;
};

}  // namespace octet::server::tests
