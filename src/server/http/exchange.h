// One HTTP request and the answer to it, as the router and its handlers see them.
#pragma once

#include <boost/beast/core/buffers_range.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/optional/optional.hpp>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "src/base/json.h"

namespace octet::server {

namespace http = boost::beast::http;

// A body in a string that grows as it arrives. (Beast's string_body allocates what is announced,
// whether it comes or not.)
struct ArrivingBody {
  using value_type = std::string;
  class reader {
   public:
    template <bool kIsRequest, class Fields>
    reader(http::header<kIsRequest, Fields>&, value_type& body) : body_(body) {}
    void init(boost::optional<uint64_t> /*announced*/, boost::beast::error_code& ec) { ec = {}; }
    template <class Buffers>
    size_t put(const Buffers& buffers, boost::beast::error_code& ec) {
      const size_t before = body_.size();
      for (const auto piece : boost::beast::buffers_range_ref(buffers))
        body_.append(static_cast<const char*>(piece.data()), piece.size());
      ec = {};
      return body_.size() - before;
    }
    void finish(boost::beast::error_code& ec) { ec = {}; }

   private:
    value_type& body_;
  };
};
using HttpRequest = http::request<ArrivingBody>;

struct HttpResponse {
  unsigned status = 200;
  std::string type = "application/json";
  std::string body;
  std::vector<std::pair<std::string, std::string>> headers;
};

// All members are for the I/O thread, except that any may ask gone(), and that one other at a time
// may read request() until the answer is given. Each request is answered once: by respond(), or by
// begin_stream(), any number of write() and end_stream().
class Exchange {
 public:
  virtual ~Exchange() = default;

  virtual const HttpRequest& request() const = 0;
  virtual std::string peer() const = 0;  // "127.0.0.1:40000"
  virtual void respond(HttpResponse response) = 0;
  virtual void begin_stream(std::string_view content_type) = 0;
  virtual void write(std::string_view data) = 0;
  // So much is unsent that the writer should wait for on_writable(). Nothing forces it to: what is
  // written meanwhile is kept.
  virtual bool congested() const = 0;
  virtual void end_stream() = 0;
  // Ends the connection at once, whatever has been answered.
  virtual void abort() = 0;
  // The client is gone, or so slow that the connection was given up: answers go nowhere.
  virtual bool gone() const = 0;

  // Headers that any answer gets.
  void add_header(std::string name, std::string value) {
    headers_.emplace_back(std::move(name), std::move(value));
  }
  // Called when the client goes before the answer is complete.
  void on_gone(std::function<void()> callback) { on_gone_ = std::move(callback); }
  // Called once, when a congested stream can take more; not when the client goes.
  void on_writable(std::function<void()> callback) { on_writable_ = std::move(callback); }
  // Called once with the status and the body's size, which a stream does not know (0): when the
  // answer was handed over, or with 499 when the client went.
  using OnDone = std::function<void(unsigned status, size_t body_bytes)>;
  void on_done(OnDone callback) { on_done_ = std::move(callback); }

 protected:
  std::vector<std::pair<std::string, std::string>> headers_;
  std::function<void()> on_gone_, on_writable_;
  OnDone on_done_;
};

// Thrown where work finds that its client is gone; there is nobody to tell.
class ClientGone : public std::exception {};
// What takes long asks before each step. Any thread.
void throw_if_gone(const Exchange& exchange);

// {"error": ...} with the error's status.
HttpResponse error_response(const std::exception& error);
// Where there is no memory for words, the connection ends.
void respond_error(Exchange& exchange, const std::exception& error);
void respond_json(Exchange& exchange, const ordered_json& body);

}  // namespace octet::server
