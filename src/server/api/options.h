// What the server offers, and within which limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/server/http/options.h"

namespace octet::server {

struct CorsOptions {
  std::vector<std::string> origins = {"*"}, methods = {"*"}, headers = {"*"};
  bool credentials = false;
};

struct ServerOptions : HttpOptions {
  std::string version;  // what /version says

  // The names of the model: requests may use any, answers carry the first. The path is accepted
  // as a name too, because MindIE's clients send it.
  std::vector<std::string> served_model_names;
  std::string model_path;
  // Sampling defaults of requests that leave them out (`--generation-config vllm`: empty).
  // max_new_tokens bounds every request.
  GenerationConfig defaults;

  std::vector<std::string> api_keys;  // none, and no file: open to all
  std::string api_key_file;           // with more of them; read again on SIGHUP
  bool guard_all_paths = false;       // but /health and /ping; else what generates and /v1
  std::string root_path;              // "/llm": removed from the front of request paths
  CorsOptions cors;
  bool enable_request_id_headers = false;
  bool access_log = true;
  double log_stats_seconds = 10;  // between lines of figures while there is work; 0: none

  std::string response_role = "assistant";
  bool return_tokens_as_token_ids = false;
  bool force_include_usage = false;
  int64_t max_logprobs = 20;  // per token; -1: the whole vocabulary
  size_t max_stop_strings = 64;
  size_t max_prompts = 1024;  // of one request

  double engine_hang_seconds = 300;  // /health says 503 when the engine's loop stands still so long
  // SIGINT and SIGTERM: stop(); again: `end_at_once`, if there is one, then at once as far as that
  // goes without the pool. SIGHUP, unless it is ignored: keys and certificates are read again.
  bool handle_signals = true;
  std::function<void()> end_at_once;
};

}  // namespace octet::server
