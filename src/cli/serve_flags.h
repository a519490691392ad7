// vLLM's server flags: which Octet uses, which have no meaning here, which it refuses
// (docs/serve.md has the same list for people).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/cli/flags.h"
#include "src/cli/runtime.h"
#include "src/server/api/options.h"

namespace octet::cli {

struct ServeFlags {
  RuntimeOptions runtime;
  server::ServerOptions server;
  std::string model_argument;  // `octet serve MODEL`
  std::string chat_template, max_model_len, kv_cache_dtype = "auto", kv_cache_bytes;
  std::string generation_config = "auto", override_generation_config;
  std::string dtype = "auto", quantization, load_format = "auto", device = "auto";
  std::string backend, log_level = "info";
  std::string content_format = "auto", logprobs_mode = "raw_logprobs", scheduling_policy = "fcfs";
  std::string origins, methods, headers;  // JSON lists
  size_t tensor_parallel = 1, pipeline_parallel = 1, data_parallel = 1;
  size_t restart_ranks = 0;  // times in a row
  int ssl_cert_reqs = 0;     // as Python counts: 2 = a client must have a certificate
  bool no_access_log = false, no_log_stats = false;
};

void add_serve_flags(const Verb& verb, ServeFlags& flags);
// Those that are taken without effect, and those that are refused.
void add_known_flags(const Verb& verb);
// "--x" as "--x,!--no-x": every flag of vLLM has both forms.
std::string with_negation(const std::string& name);

// Checks values and fills runtime and server options, environment variables included. Throws kUsage
// Error for what cannot be done.
void resolve(ServeFlags& flags);

// Keys, one a line, where no --api-key gives any. Ranks get theirs so: others can read a command
// line, not an environment.
inline constexpr const char* kKeysVariable = "OCTET_API_KEYS";
// `command` without --api-key and its values.
std::vector<std::string> without_keys(const std::vector<std::string>& command);

}  // namespace octet::cli
