#include "src/server/http/connection.h"

#include <fmt/format.h>

#include <atomic>
#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <chrono>
#include <optional>
#include <type_traits>
#include <vector>

#include "src/base/error.h"
#include "src/server/http/errors.h"
#include "src/server/http/framing.h"

namespace octet::server {
namespace {

namespace beast = boost::beast;
using boost::system::error_code;

constexpr size_t kReadAhead = size_t{64} << 10;  // bytes of the requests that follow
constexpr size_t kReadPiece = size_t{16} << 10;
constexpr size_t kWritePiece = size_t{64} << 10;
constexpr int kSendBuffer = 128 << 10;
constexpr double kLingerSeconds = 2;
constexpr auto kPatience = std::chrono::seconds(1);  // with a full buffer
constexpr unsigned kClientGone = 499;                // nginx's number, for logs and metrics

// Drops the trailers of a chunked body (RFC 9110, 6.5.1): merged into the header they would pass as
// what a proxy in front has looked at. Together they may be as large as a header.
class RequestParser final : public http::request_parser<ArrivingBody> {
 public:
  explicit RequestParser(const HttpOptions& options) : trailer_room_(options.max_header_bytes) {
    header_limit(static_cast<uint32_t>(options.max_header_bytes));
    body_limit(options.max_body_bytes);
  }

 private:
  void on_field_impl(http::field name, beast::string_view spelled, beast::string_view value,
                     error_code& ec) override {
    if (!is_header_done()) {
      get().insert(name, spelled, value);
    } else if (const size_t size = spelled.size() + value.size() + 4; size <= trailer_room_) {
      trailer_room_ -= size;
    } else {
      ec = http::error::header_limit;
    }
  }

  size_t trailer_room_;
};

template <class Stream>
class StreamConnection final : public Connection,
                               public std::enable_shared_from_this<StreamConnection<Stream>> {
 public:
  StreamConnection(Stream stream, const HttpOptions& options, ConnectionOwner& owner)
      : stream_(std::move(stream)),
        options_(options),
        owner_(owner),
        deadline_(stream_.get_executor()),
        watch_(stream_.get_executor()),
        piece_(kReadPiece),
        buffer_(options.max_header_bytes + kReadAhead) {
    error_code ec;
    const auto endpoint = stream_.lowest_layer().remote_endpoint(ec);
    if (!ec) peer_ = fmt::format("{}:{}", endpoint.address().to_string(), endpoint.port());
    stream_.lowest_layer().set_option(tcp::no_delay(true), ec);
    // Bounds what the kernel holds for a slow client, and how much that client must take before
    // the next piece can go (a growing buffer would wait for megabytes).
    stream_.lowest_layer().set_option(asio::socket_base::send_buffer_size(kSendBuffer), ec);
  }

  void start() override {
    if constexpr (kTls) {
      arm(options_.read_seconds);
      stream_.async_handshake(
          asio::ssl::stream_base::server, [self = this->shared_from_this()](error_code ec) {
            ec ? self->abort() : self->await_request(self->options_.read_seconds);
          });
    } else {
      await_request(options_.read_seconds);
    }
  }

  void close_when_idle() override {
    keep_alive_ = false;
    if (state_ == State::kIdle) abort();
  }

  void close_after_answer() override { keep_alive_ = false; }

  bool busy() const override { return state_ == State::kBusy; }

  void abort() override {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    gone_ = true;
    disarm();
    watch_.cancel();
    error_code ignored;
    stream_.lowest_layer().close(ignored);
    forget_request();
    report_done(kClientGone, 0);
    on_done_ = nullptr;
    on_writable_ = nullptr;
    if (const auto callback = std::exchange(on_gone_, nullptr)) callback();
    owner_.closed(this);
  }

  const HttpRequest& request() const override { return request_; }
  std::string peer() const override { return peer_; }
  bool gone() const override { return gone_; }

  void respond(HttpResponse response) override {
    if (state_ == State::kClosed) return;
    OCTET_CHECK(state_ == State::kBusy);
    std::string head = start_head(response.status, response.type);
    for (const auto& [name, value] : response.headers) add_line(head, name, value);
    add_line(head, "Content-Length", std::to_string(response.body.size()));
    out_ += head + "\r\n";
    if (request_.method() != http::verb::head) out_ += response.body;
    finish_answer(response.status, response.body.size());
  }

  void begin_stream(std::string_view content_type) override {
    if (state_ == State::kClosed) return;
    OCTET_CHECK(state_ == State::kBusy);
    chunked_ = request_.version() >= 11;
    keep_alive_ = keep_alive_ && chunked_;
    std::string head = start_head(200, content_type);
    add_line(head, "Cache-Control", "no-cache");
    if (chunked_) add_line(head, "Transfer-Encoding", "chunked");
    out_ += head + "\r\n";
    flush();
  }

  void write(std::string_view data) override {
    if (state_ == State::kClosed || data.empty()) return;
    out_ += chunked_ ? fmt::format("{:x}\r\n{}\r\n", data.size(), data) : std::string(data);
    flush();
  }

  // flush() hands everything to the socket when that is free, so only what piled up behind a write
  // under way counts: a fast writer alone does not make a slow reader.
  bool congested() const override { return out_.size() > options_.max_unsent_bytes; }

  void end_stream() override {
    if (state_ == State::kClosed) return;
    if (chunked_) out_ += "0\r\n\r\n";
    finish_answer(200, 0);
  }

 private:
  static constexpr bool kTls = !std::is_same_v<Stream, tcp::socket>;
  // Waiting for a request; reading one; answering it; the answer is complete but not all sent;
  // waiting for the client's end of the conversation; over.
  enum class State { kIdle, kReading, kBusy, kSending, kLingering, kClosed };

  // --- time limits ---

  void arm(double seconds) {
    deadline_.expires_after(std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000)));
    deadline_.async_wait([self = this->shared_from_this()](error_code ec) {
      if (!ec && self->deadline_.expiry() <= std::chrono::steady_clock::now()) self->expired();
    });
  }

  // Also takes back an expiry that has happened already and waits for its turn.
  void disarm() { deadline_.expires_at(asio::steady_timer::time_point::max()); }

  void expired() {
    if (state_ == State::kReading && !writing_)
      refuse(408, "the request did not arrive in time");
    else
      abort();
  }

  // --- reading ---

  void await_request(double seconds) {
    state_ = State::kIdle;
    arm(seconds);
    advance();
  }

  // One read at most is under way. It goes on while a request is answered, to see the client go
  // away, whatever it has sent beyond the request.
  void read_more() {
    if (reading_) return;
    if (!discards_ && !has_room()) return wait_for_room();
    reading_ = true;
    stream_.async_read_some(asio::buffer(piece_),
                            [self = this->shared_from_this()](error_code ec, size_t bytes) {
                              self->reading_ = false;
                              if (self->state_ == State::kClosed) return;
                              if (ec) return self->abort();
                              self->take(bytes);
                              self->advance();
                            });
  }

  bool has_room() const { return buffer_.size() + piece_.size() <= buffer_.max_size(); }

  void take(size_t bytes) {
    if (state_ == State::kLingering || discards_) return;
    buffer_.commit(asio::buffer_copy(buffer_.prepare(bytes), asio::buffer(piece_, bytes)));
  }

  // The requests that follow fill the buffer. When the answer under way lasts, they are given up,
  // and the connection with them once it is sent: the client's end would lie unread behind them.
  void wait_for_room() {
    watch_.expires_after(kPatience);
    watch_.async_wait([self = this->shared_from_this()](error_code ec) {
      if (ec || self->state_ != State::kBusy || self->has_room()) return;
      self->discards_ = true;
      self->keep_alive_ = false;
      self->buffer_.clear();
      self->read_more();
    });
  }

  void advance() {
    if (state_ == State::kIdle && skip_empty_lines()) begin_request();
    if (state_ == State::kReading) parse();
    if (state_ != State::kClosed) read_more();
  }

  // As RFC 9112, 2.2 has it. Whether a request follows.
  bool skip_empty_lines() {
    const auto text = [this] {
      return std::string_view(static_cast<const char*>(buffer_.data().data()), buffer_.size());
    };
    while (text().starts_with("\r\n")) buffer_.consume(2);
    return !text().empty() && text() != "\r";
  }

  void begin_request() {
    state_ = State::kReading;
    arm(options_.read_seconds);
    parser_.emplace(options_);
    header_bytes_ = 0;
  }

  void parse() {
    while (state_ == State::kReading && buffer_.size() > 0) {
      const bool in_header = !parser_->is_header_done();
      error_code ec;
      const size_t used = parser_->put(buffer_.data(), ec);
      buffer_.consume(used);
      if (ec && ec != http::error::need_more) return on_read_error(ec);
      if (in_header) {
        // The parser's own limit is for one field: many would pass it.
        header_bytes_ += used;
        if (header_bytes_ > options_.max_header_bytes)
          return on_read_error(http::error::header_limit);
        if (parser_->is_header_done()) on_header();
      } else if (const size_t size = parser_->get().body().size(); size > reserved_) {
        if (!owner_.reserve(size - reserved_))
          return refuse(503, "too many large requests at once");
        reserved_ = size;
      }
      if (state_ == State::kReading && parser_->is_done()) return on_request();
      if (ec == http::error::need_more) {
        if (!has_room()) on_read_error(http::error::buffer_overflow);
        return;
      }
    }
  }

  // Answers now what its body would not change, so that no body is waited for in vain. One that is
  // here already is read, and the connection stays.
  void on_header() {
    const HttpRequest& header = parser_->get();
    if (const auto fault = framing_fault(header)) return refuse(*fault);
    if (parser_->is_done()) return;  // there is no body
    const auto length = parser_->content_length();
    if (owner_.refuses(header) && !(length && *length <= buffer_.size())) {
      keep_alive_ = false;
      return hand_over();
    }
    parser_->eager(true);
    if (beast::iequals(header[http::field::expect], "100-continue") && header.version() >= 11) {
      out_ += "HTTP/1.1 100 Continue\r\n\r\n";
      flush();
    }
  }

  void on_request() {
    keep_alive_ = keep_alive_ && parser_->get().keep_alive();
    hand_over();
  }

  void hand_over() {
    disarm();
    request_ = parser_->release();
    parser_.reset();
    state_ = State::kBusy;
    owner_.handle(this->shared_from_this());
  }

  void on_read_error(error_code ec) {
    if (ec == http::error::body_limit)
      return refuse(413, fmt::format("the body is larger than {} bytes", options_.max_body_bytes));
    if (ec == http::error::header_limit || ec == http::error::buffer_overflow)
      return refuse(431,
                    fmt::format("the headers are larger than {} bytes", options_.max_header_bytes));
    const bool malformed = ec.category() == make_error_code(http::error::bad_method).category() &&
                           ec != http::error::end_of_stream && ec != http::error::partial_message;
    malformed ? refuse(400, "Invalid HTTP request received.") : abort();
  }

  // Answers what is not a request that the owner can handle, and closes.
  void refuse(const ApiError& error) {
    disarm();
    state_ = State::kBusy;
    keep_alive_ = false;
    request_ = {};
    respond(error_response(error));
  }
  void refuse(unsigned status, std::string message) {
    refuse(http_error(status, std::move(message)));
  }

  // --- writing ---

  static void add_line(std::string& head, std::string_view name, std::string_view value) {
    head.append(name).append(": ").append(value).append("\r\n");
  }

  std::string start_head(unsigned status, std::string_view type) const {
    std::string head =
        fmt::format("HTTP/1.1 {} {}\r\n", status,
                    std::string_view(http::obsolete_reason(http::int_to_status(status))));
    add_line(head, "Server", "octet");
    if (!type.empty()) add_line(head, "Content-Type", type);
    for (const auto& [name, value] : headers_) add_line(head, name, value);
    if (!keep_alive_)
      add_line(head, "Connection", "close");
    else if (request_.version() < 11)
      add_line(head, "Connection", "keep-alive");
    return head;
  }

  void finish_answer(unsigned status, size_t body_bytes) {
    state_ = State::kSending;
    on_gone_ = nullptr;
    on_writable_ = nullptr;
    report_done(status, body_bytes);
    forget_request();
    flush();
  }

  void report_done(unsigned status, size_t body_bytes) {
    if (const auto callback = std::exchange(on_done_, nullptr)) callback(status, body_bytes);
  }

  void forget_request() {
    owner_.release(std::exchange(reserved_, 0));
    headers_.clear();
  }

  void flush() {
    if (writing_ || out_.empty()) return;
    writing_ = true;
    sent_.swap(out_);
    out_.clear();
    // The time limit is for the next piece to be taken, not for all of a long answer.
    const auto piece = [self = this->shared_from_this()](error_code ec, size_t) -> size_t {
      if (ec || self->state_ == State::kClosed) return 0;
      self->arm(self->options_.write_seconds);
      return kWritePiece;
    };
    asio::async_write(stream_, asio::buffer(sent_), piece,
                      [self = this->shared_from_this()](error_code ec, size_t) {
                        self->writing_ = false;
                        if (self->state_ == State::kClosed) return;
                        if (ec) return self->abort();
                        self->on_written();
                      });
  }

  void on_written() {
    if (state_ == State::kReading) return arm(options_.read_seconds);  // "100 Continue" is out
    disarm();
    if (!out_.empty()) {
      flush();
      if (const auto callback = std::exchange(on_writable_, nullptr)) callback();
      return;
    }
    if (state_ != State::kSending) return;  // more will come
    sent_ = {};
    keep_alive_ ? await_request(options_.keep_alive_seconds) : linger();
  }

  // Says that nothing more comes and waits a little for the client to close: closing with unread
  // bytes in the socket would take the answer away from it.
  void linger() {
    state_ = State::kLingering;
    arm(kLingerSeconds);
    if constexpr (kTls) {
      stream_.async_shutdown([self = this->shared_from_this()](error_code) { self->abort(); });
    } else {
      error_code ignored;
      stream_.shutdown(tcp::socket::shutdown_send, ignored);
      buffer_.clear();
      read_more();
    }
  }

  Stream stream_;
  const HttpOptions& options_;
  ConnectionOwner& owner_;
  asio::steady_timer deadline_, watch_;
  std::string peer_ = "unknown";
  State state_ = State::kIdle;
  std::atomic<bool> gone_{false};  // as state_ says, for other threads
  // What is being read, and what is read but not parsed: they are apart because a buffer's bytes
  // must not be consumed under a read.
  std::vector<char> piece_;
  beast::flat_buffer buffer_;
  std::optional<RequestParser> parser_;
  size_t header_bytes_ = 0;  // parsed so far
  HttpRequest request_;
  size_t reserved_ = 0;  // body bytes, with the owner
  bool reading_ = false, writing_ = false, keep_alive_ = true, chunked_ = false;
  bool discards_ = false;   // what is read
  std::string out_, sent_;  // to be sent; being sent
};

}  // namespace

std::shared_ptr<Connection> make_connection(tcp::socket socket, asio::ssl::context* tls,
                                            const HttpOptions& options, ConnectionOwner& owner) {
  if (tls == nullptr)
    return std::make_shared<StreamConnection<tcp::socket>>(std::move(socket), options, owner);
  using Tls = asio::ssl::stream<tcp::socket>;
  return std::make_shared<StreamConnection<Tls>>(Tls(std::move(socket), *tls), options, owner);
}

}  // namespace octet::server
