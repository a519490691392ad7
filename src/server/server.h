// The HTTP server: the OpenAI API, as vLLM's server speaks it, in front of one engine.
//
// One thread (the caller of run()) does all input and output; a small pool parses, applies chat
// templates, tokenizes and renders long answers; the engine's own thread only drops outputs into
// an inbox. So a slow client, a long prompt or a hostile body holds up nobody else.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/engine/engine.h"
#include "src/server/metrics.h"
#include "src/text/chat_template.h"
#include "src/text/tokenizer.h"

namespace octet::server {

struct CorsOptions {
  std::vector<std::string> origins = {"*"}, methods = {"*"}, headers = {"*"};
  bool credentials = false;
};

struct TlsOptions {
  std::string key_file, certificate_file;  // both, or neither: plain HTTP
  std::string ca_file;                     // for the certificates of clients
  bool require_client_certificate = false;
};

struct ServerOptions {
  std::string host;      // a name or address; empty: all IPv4 interfaces
  uint16_t port = 8000;  // 0: a free one
  std::string version;   // what /version says

  // The names of the model: requests may use any, answers carry the first. The path is accepted
  // as a name too, because MindIE's clients send it.
  std::vector<std::string> served_model_names;
  std::string model_path;
  // Sampling defaults of requests that leave them out (`--generation-config vllm`: empty).
  // max_new_tokens bounds every request.
  GenerationConfig defaults;

  std::vector<std::string> api_keys;  // none: open to all
  std::string root_path;              // "/llm": removed from the front of request paths
  CorsOptions cors;
  TlsOptions tls;
  bool enable_request_id_headers = false;
  bool access_log = true;
  double log_stats_seconds = 10;  // between lines of figures while there is work; 0: none

  std::string response_role = "assistant";
  bool return_tokens_as_token_ids = false;
  bool force_include_usage = false;
  int64_t max_logprobs = 20;  // per token; -1: the whole vocabulary
  size_t max_stop_strings = 64;
  size_t max_prompts = 1024;  // of one request

  size_t max_connections = 4096;
  size_t max_header_bytes = size_t{64} << 10;
  size_t max_body_bytes = size_t{32} << 20;
  size_t max_bodies_bytes = size_t{512} << 20;  // of all requests being read or answered
  size_t max_unsent_bytes = size_t{4} << 20;    // a stream further ahead of its reader waits
  double keep_alive_seconds = 5;                // between requests
  double read_seconds = 60;                     // for one request to arrive
  double write_seconds = 60;                    // for a client to take the next piece of an answer
  double shutdown_grace_seconds = 30;           // for requests to finish after stop()
  double engine_hang_seconds = 300;  // /health says 503 when the engine's loop stands still so long
  bool handle_signals = true;        // SIGINT and SIGTERM: stop(); again: at once
};

class Listener;

class Server {
 public:
  // Connections are served once run() is called. Takes over what the listener holds; everything
  // else passed in must outlive the server; `metrics` is the engine's observer. Without a chat
  // template chat requests get 400.
  Server(Engine& engine, const text::Tokenizer& tokenizer, const text::ChatTemplate* chat_template,
         Metrics& metrics, ServerOptions options, Listener& listener);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves until stop() or a signal; then stops listening, lets requests finish within the grace
  // time, aborts the rest and returns. Once.
  void run();
  // Any thread.
  void stop();

  uint16_t port() const;
  std::string url() const;  // http://127.0.0.1:8000

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::server
