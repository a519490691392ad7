#include "src/server/http/connection.h"

#include <fmt/format.h>

#include <boost/asio/ssl/stream.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <optional>
#include <type_traits>

#include "src/base/error.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

namespace beast = boost::beast;
using boost::system::error_code;

constexpr size_t kReadAhead = size_t{64} << 10;  // bytes of the requests that follow
constexpr size_t kWritePiece = size_t{64} << 10;
constexpr int kSendBuffer = 128 << 10;
constexpr double kLingerSeconds = 2;
constexpr unsigned kClientGone = 499;  // nginx's number, for logs and metrics

template <class Stream>
class StreamConnection final : public Connection,
                               public std::enable_shared_from_this<StreamConnection<Stream>> {
 public:
  StreamConnection(Stream stream, const HttpOptions& options, ConnectionOwner& owner)
      : stream_(std::move(stream)),
        options_(options),
        owner_(owner),
        deadline_(stream_.get_executor()),
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

  void abort() override {
    if (state_ == State::kClosed) return;
    state_ = State::kClosed;
    deadline_.cancel();
    error_code ignored;
    stream_.lowest_layer().close(ignored);
    forget_request();
    report_done(kClientGone);
    on_done_ = nullptr;
    on_writable_ = nullptr;
    if (const auto callback = std::exchange(on_gone_, nullptr)) callback();
    owner_.closed(this);
  }

  const HttpRequest& request() const override { return request_; }
  std::string peer() const override { return peer_; }
  bool gone() const override { return state_ == State::kClosed; }

  void respond(HttpResponse response) override {
    if (state_ == State::kClosed) return;
    OCTET_CHECK(state_ == State::kBusy);
    std::string head = start_head(response.status, response.type);
    for (const auto& [name, value] : response.headers) add_line(head, name, value);
    add_line(head, "Content-Length", std::to_string(response.body.size()));
    out_ += head + "\r\n";
    if (request_.method() != http::verb::head) out_ += response.body;
    finish_answer(response.status);
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
    finish_answer(200);
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
    if (buffer_.size() > 0)
      read_header();
    else
      read_ahead();
  }

  // Reads ahead while nothing else does: to see the next request begin, and the client go away.
  // Once there are bytes of a further request it rests (that client is noticed when writing fails).
  void read_ahead() {
    if (watching_ || buffer_.size() > 0) return;
    watching_ = true;
    stream_.async_read_some(buffer_.prepare(kReadAhead),
                            [self = this->shared_from_this()](error_code ec, size_t bytes) {
                              self->watching_ = false;
                              if (self->state_ == State::kClosed) return;
                              if (ec) return self->abort();
                              if (self->state_ == State::kLingering)
                                return self->read_ahead();  // thrown away
                              self->buffer_.commit(bytes);
                              if (self->state_ == State::kIdle) self->read_header();
                            });
  }

  void read_header() {
    state_ = State::kReading;
    arm(options_.read_seconds);
    parser_.emplace();
    parser_->header_limit(static_cast<uint32_t>(options_.max_header_bytes));
    parser_->body_limit(options_.max_body_bytes);
    read_header_part(0);
  }

  // Piece by piece, because the parser's own limit is for one field: many would pass it.
  void read_header_part(size_t so_far) {
    http::async_read_some(stream_, buffer_, *parser_,
                          [self = this->shared_from_this(), so_far](error_code ec, size_t bytes) {
                            if (self->state_ != State::kReading) return;
                            const size_t total = so_far + bytes;
                            if (ec)
                              self->on_read_error(ec);
                            else if (total > self->options_.max_header_bytes)
                              self->on_read_error(http::error::header_limit);
                            else
                              self->parser_->is_header_done() ? self->on_header()
                                                              : self->read_header_part(total);
                          });
  }

  void on_header() {
    const auto& request = parser_->get();
    const auto length = parser_->content_length();
    const size_t size = length               ? static_cast<size_t>(*length)
                        : parser_->chunked() ? options_.max_body_bytes
                                             : 0;
    if (!owner_.reserve(size)) return refuse(503, "too many large requests at once");
    reserved_ = size;
    if (beast::iequals(request[http::field::expect], "100-continue") && request.version() >= 11) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      asio::async_write(stream_, asio::buffer(kContinue),
                        [self = this->shared_from_this()](error_code failed, size_t) {
                          if (self->state_ != State::kReading) return;
                          failed ? self->abort() : self->read_body();
                        });
    } else {
      read_body();
    }
  }

  void read_body() {
    http::async_read(stream_, buffer_, *parser_,
                     [self = this->shared_from_this()](error_code ec, size_t) {
                       if (self->state_ != State::kReading) return;
                       ec ? self->on_read_error(ec) : self->on_request();
                     });
  }

  void on_request() {
    deadline_.cancel();
    request_ = parser_->release();
    parser_.reset();
    // A chunked body was counted at its limit while its size was unknown.
    owner_.release(reserved_ - request_.body().size());
    reserved_ = request_.body().size();
    keep_alive_ = request_.keep_alive();
    state_ = State::kBusy;
    read_ahead();
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
  void refuse(unsigned status, std::string message) {
    deadline_.cancel();
    state_ = State::kBusy;
    keep_alive_ = false;
    request_ = {};
    respond(error_response(http_error(status, std::move(message))));
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

  void finish_answer(unsigned status) {
    state_ = State::kSending;
    on_gone_ = nullptr;
    on_writable_ = nullptr;
    report_done(status);
    forget_request();
    flush();
  }

  void report_done(unsigned status) {
    if (const auto callback = std::exchange(on_done_, nullptr)) callback(status);
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
    deadline_.cancel();
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
      read_ahead();
    }
  }

  Stream stream_;
  const HttpOptions& options_;
  ConnectionOwner& owner_;
  asio::steady_timer deadline_;
  std::string peer_ = "unknown";
  State state_ = State::kIdle;
  beast::flat_buffer buffer_;
  std::optional<http::request_parser<http::string_body>> parser_;
  HttpRequest request_;
  size_t reserved_ = 0;  // body bytes, with the owner
  bool watching_ = false, writing_ = false, keep_alive_ = true, chunked_ = false;
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
