// A server with a small random model, and a client that speaks raw HTTP to it.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/checkpoint/safetensors_writer.h"
#include "src/server/server.h"

namespace octet::server::tests {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using asio::ip::tcp;

inline const fs::path kTokenizerFolder = fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16";
inline constexpr size_t kMaxModelLen = 192;

// A LLaMA of two layers with random weights, for the vocabulary of models/llama3_tiny_bf16.
class RandomModel {
 public:
  RandomModel() {
    std::string name = (fs::temp_directory_path() / "octet-server-test-XXXXXX").string();
    OCTET_CHECK(::mkdtemp(name.data()) != nullptr);
    path_ = name;
    const ordered_json config = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"hidden_size", 64},
                                 {"intermediate_size", 96},
                                 {"num_hidden_layers", 2},
                                 {"num_attention_heads", 4},
                                 {"num_key_value_heads", 2},
                                 {"head_dim", 16},
                                 {"hidden_act", "silu"},
                                 {"rms_norm_eps", 1e-5},
                                 {"rope_theta", 10000.0},
                                 {"max_position_embeddings", 8192},
                                 {"vocab_size", 2024},
                                 {"tie_word_embeddings", false},
                                 {"torch_dtype", "bfloat16"},
                                 {"eos_token_id", {2016, 2022}}};
    write_text(path_ / "config.json", config.dump());
    write_weights(ModelConfig::load(path_));
  }
  ~RandomModel() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  void write_weights(const ModelConfig& c) {
    const auto u = [](int64_t v) { return static_cast<uint64_t>(v); };
    const uint64_t hidden = u(c.hidden_size), vocab = u(c.vocab_size);
    std::vector<TensorSpec> specs = {{kEmbeddingWeight, DType::kBF16, {vocab, hidden}},
                                     {"model.norm.weight", DType::kBF16, {hidden}},
                                     {kHeadWeight, DType::kBF16, {vocab, hidden}}};
    for (int64_t i = 0; i < c.layers; ++i) {
      for (const LayerNorm& norm : layer_norms(c, i))
        specs.push_back({norm.full_name + ".weight", DType::kBF16, {norm.count}});
      for (const LayerLinear& l : layer_linears(c, i))
        specs.push_back({l.full_name + ".weight", DType::kBF16, {l.shape.n, l.shape.k}});
    }
    SafetensorsWriter writer(path_, specs, {});
    std::mt19937 rng(1);
    std::normal_distribution<float> normal(0, 0.3f);
    for (const TensorSpec& spec : specs) {
      std::vector<bf16> values(spec.bytes() / 2);
      for (bf16& v : values) v = to_bf16(spec.shape.size() == 1 ? 1.0f : normal(rng));
      writer.write(spec.name, values);
    }
    writer.finish();
  }

  fs::path path_;
};

struct Reply {
  unsigned status = 0;
  http::fields headers;
  std::string text;

  ordered_json json() const { return ordered_json::parse(text); }
  std::string header(std::string_view name) const { return std::string(headers[name]); }
  // The events of a stream; the last one must be [DONE].
  std::vector<ordered_json> events() const {
    std::vector<ordered_json> out;
    bool done = false;
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = text.find("\n\n", at);
      EXPECT_NE(end, std::string::npos) << "an event without end";
      const std::string event = text.substr(at, end - at);
      EXPECT_EQ(event.rfind("data: ", 0), 0u) << event;
      EXPECT_FALSE(done) << "an event after [DONE]: " << event;
      if (event == "data: [DONE]")
        done = true;
      else
        out.push_back(ordered_json::parse(event.substr(6)));
      at = end + 2;
    }
    EXPECT_TRUE(done) << text;
    return out;
  }
};

// One connection; every wait ends after half a minute.
class Client {
 public:
  explicit Client(uint16_t port) : io_(std::make_unique<asio::io_context>()), socket_(*io_) {
    socket_.connect({asio::ip::address_v4::loopback(), port});
    const timeval limit{30, 0};
    ::setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }

  void send(std::string_view bytes) { asio::write(socket_, asio::buffer(bytes)); }
  Reply receive(bool head = false) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    parser.skip(head);
    http::read(socket_, buffer_, parser);
    auto response = parser.release();
    return {response.result_int(), response.base(), std::move(response.body())};
  }
  // Bytes as they come, at least one; empty at the end of the connection.
  std::string receive_some() {
    std::string bytes(4096, '\0');
    boost::system::error_code ec;
    bytes.resize(socket_.read_some(asio::buffer(bytes), ec));
    return bytes;
  }
  // A request whose answer is read later, or never.
  void send_json(std::string_view path, const ordered_json& body) {
    const std::string text = body.dump();
    send("POST " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n" +
         "Content-Type: application/json\r\nContent-Length: " + std::to_string(text.size()) +
         "\r\n\r\n" + text);
  }
  Reply request(std::string_view method, std::string_view path, std::string_view body = "",
                std::vector<std::pair<std::string, std::string>> headers = {}) {
    std::string text =
        std::string(method) + " " + std::string(path) + " HTTP/1.1\r\nHost: test\r\n";
    if (method == "POST" && headers.empty())
      headers.emplace_back("Content-Type", "application/json");
    for (const auto& [name, value] : headers) text += name + ": " + value + "\r\n";
    text += "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n";
    send(text += body);
    return receive(method == "HEAD");
  }
  // Of a server that is full: the answer comes only once `other` goes.
  Reply expect_no_room(Client& other) {
    send("GET /health HTTP/1.1\r\nHost: test\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    EXPECT_EQ(socket_.available(), 0u);
    other.close();
    return receive();
  }
  void close() { socket_.close(); }
  tcp::socket& socket() { return socket_; }

 private:
  std::unique_ptr<asio::io_context> io_;
  tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
};

// Each test gets a server of its own: change options_ and engine_options_, then start().
class ServerTest : public ::testing::Test {
 protected:
  ServerTest() {
    options_.host = "127.0.0.1";
    options_.port = 0;
    options_.version = "1.2.3";
    options_.served_model_names = {"tiny", "alias"};
    options_.model_path = model_folder_.path().string();
    options_.handle_signals = false;
    options_.access_log = false;
    options_.shutdown_grace_seconds = 10;
    engine_options_.max_sequences = 16;
    engine_options_.max_batched_tokens = 64;
    engine_options_.max_model_len = kMaxModelLen;
    engine_options_.kv_blocks = 256;
    engine_options_.eos_ids = {2016, 2022};
  }
  ~ServerTest() override { stop(); }

  // For requests that are still running whenever the test looks.
  void allow_long_requests() {
    engine_options_.max_model_len = 4096;
    engine_options_.kv_blocks = 2048;
    options_.shutdown_grace_seconds = 60;
  }
  void start() {
    Listener listener(options_);
    metrics_ = std::make_unique<Metrics>("tiny", engine_options_);
    engine_ = std::make_unique<Engine>(model_, &tokenizer_, engine_options_, metrics_.get());
    const Backend backend{*engine_, tokenizer_, has_template_ ? &*template_ : nullptr, *metrics_};
    server_ = std::make_unique<Server>(backend, options_, listener);
    thread_ = std::thread([this] { server_->run(); });
  }
  void stop() {
    if (!thread_.joinable()) return;
    server_->stop();
    thread_.join();
    server_.reset();
  }

  Client connect() { return Client(server_->port()); }
  Reply get(std::string_view path) { return connect().request("GET", path); }
  Reply post(std::string_view path, const ordered_json& body) {
    return connect().request("POST", path, body.dump());
  }
  // A completion or chat request that must succeed.
  ordered_json complete(const ordered_json& body) { return good("/v1/completions", body); }
  ordered_json chat(const ordered_json& body) { return good("/v1/chat/completions", body); }
  ordered_json good(std::string_view path, const ordered_json& body) {
    const Reply reply = post(path, body);
    EXPECT_EQ(reply.status, 200u) << body.dump() << "\n" << reply.text;
    return reply.json();
  }
  std::vector<ordered_json> stream(std::string_view path, ordered_json body) {
    body["stream"] = true;
    const Reply reply = post(path, body);
    EXPECT_EQ(reply.status, 200u) << reply.text;
    EXPECT_EQ(reply.header("Content-Type"), "text/event-stream; charset=utf-8");
    return reply.events();
  }
  // The error object of a request that must fail with `status`; the server lives on.
  ordered_json bad(std::string_view path, const ordered_json& body, unsigned status = 400) {
    const Reply reply = post(path, body);
    EXPECT_EQ(reply.status, status) << body.dump().substr(0, 200) << "\n" << reply.text;
    EXPECT_EQ(get("/health").status, 200u);
    ordered_json error = reply.json().at("error");
    EXPECT_EQ(error.at("code"), status);
    return error;
  }
  // The value of a series, labels left out of the comparison.
  double metric(const std::string& name) {
    const std::string text = get("/metrics").text;
    for (size_t at = 0; (at = text.find("\n" + name, at)) != std::string::npos; ++at) {
      const size_t end = at + 1 + name.size();
      if (text[end] != '{' && text[end] != ' ') continue;
      const size_t line = text.find('\n', end);
      return std::stod(text.substr(text.rfind(' ', line), line));
    }
    ADD_FAILURE() << "no series " << name;
    return -1;
  }
  void wait_until(const std::function<bool()>& condition) {
    for (int i = 0; i < 3000; ++i) {  // a minute: what the sanitizers watch is slow
      if (condition()) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
    ADD_FAILURE() << "the condition never came true";
  }

  RandomModel model_folder_;
  ThreadTeam team_{2};
  Transformer model_{std::make_shared<ModelFolder>(model_folder_.path()), team_, {.max_rows = 64}};
  text::Tokenizer tokenizer_ = text::Tokenizer::load(kTokenizerFolder);
  std::optional<text::ChatTemplate> template_ = text::ChatTemplate::load(kTokenizerFolder);
  bool has_template_ = true;
  EngineOptions engine_options_;
  ServerOptions options_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Server> server_;
  std::thread thread_;
};

}  // namespace octet::server::tests
