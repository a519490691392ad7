// What the flags of `octet serve` ask for, checked.
#include "src/cli/serve_flags.h"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <sstream>
#include <utility>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/cli/cli.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_job.h"
#include "src/machine/topology.h"
#include "src/server/http/auth.h"

namespace octet::cli {
namespace {

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != 0 ? value : nullptr;
}

double environment_number(const char* name, const char* value) {
  char* end = nullptr;
  const double v = std::strtod(value, &end);
  if (*end != 0 || !(v >= 0 && v < 1e9))
    throw Error("no number", ErrorKind::kUsage).field(name).found(value);
  return v;
}

std::vector<std::string> string_list(const std::string& text, const char* flag) {
  const json list = flag_json(text, flag, json::value_t::array);
  std::vector<std::string> out;
  for (const json& item : list) {
    if (!item.is_string()) throw usage_error(fmt::format("{}: expected strings", flag));
    out.push_back(item.get<std::string>());
  }
  return out;
}

void check_parallel(const ServeFlags& f) {
  const auto only_one = [](size_t n, const char* flag, const char* what) {
    if (n == 1) return;
    throw Error(fmt::format("{} is not supported", what), ErrorKind::kUsage)
        .field(flag)
        .expected("1")
        .found(std::to_string(n))
        .remedy(fmt::format(
            "start with {} 1; --tensor-parallel-size divides a model over ranks and hosts", flag));
  };
  only_one(f.pipeline_parallel, "--pipeline-parallel-size", "pipeline parallelism");
  only_one(f.data_parallel, "--data-parallel-size", "data parallelism");
  if (f.restart_ranks > 0 && f.tensor_parallel == 1 && !MpiJob::joined())
    notice("--restart-ranks has no effect: there is one rank");
  if (f.restart_ranks > 0 && MpiJob::joined() && !in_job())
    throw Error("ranks are started again by who started them", ErrorKind::kUsage)
        .field("--restart-ranks")
        .remedy(
            "leave it to the launcher, or start without one: --distributed-executor-backend mp");
  if (f.tensor_parallel == 1 && !MpiJob::joined())
    if (const size_t nodes = numa_nodes(); nodes > 1)
      notice(fmt::format("this host has {} NUMA nodes: --tp {} gives each a rank", nodes, nodes));
  if (f.backend == "mpi" && f.tensor_parallel > 1 && !MpiJob::joined())
    notice("no mpirun or srun has started this: all ranks start on this host");
  if (!f.backend.empty() && f.backend != "uni" && f.tensor_parallel == 1 && !MpiJob::joined())
    notice(fmt::format("--distributed-executor-backend {}: one rank needs no launcher", f.backend));
}

void check_formats(const ServeFlags& f) {
  const std::string& q = f.quantization;
  if (!q.empty() && q != "ascend" && q != "compressed-tensors" && q != "none")
    throw Error("the quantization is what the checkpoint says", ErrorKind::kUsage)
        .field("--quantization")
        .expected("ascend or compressed-tensors, or leave it out")
        .found(q);
  if (f.load_format != "auto" && f.load_format != "safetensors")
    throw Error("only safetensors files can be loaded", ErrorKind::kUsage)
        .field("--load-format")
        .expected("auto or safetensors")
        .found(f.load_format)
        .remedy("for random weights: octet bench make-model");
  if (f.device != "auto" && f.device != "cpu")
    throw Error("this program computes on CPUs", ErrorKind::kUsage)
        .field("--device")
        .expected("auto or cpu")
        .found(f.device);
  if (f.logprobs_mode != "raw_logprobs")
    throw Error("log-probabilities are those of the model, before penalties and temperature",
                ErrorKind::kUsage)
        .field("--logprobs-mode")
        .expected("raw_logprobs")
        .found(f.logprobs_mode);
  if (f.scheduling_policy != "fcfs")
    throw Error("requests are served first come, first served", ErrorKind::kUsage)
        .field("--scheduling-policy")
        .expected("fcfs")
        .found(f.scheduling_policy);
  if (!f.server.tls.ca_file.empty() && !f.server.tls.require_client_certificate)
    notice("--ssl-ca-certs has no effect without --ssl-cert-reqs 2");
  if (f.content_format == "openai")
    notice("--chat-template-content-format openai: templates get the text parts as one string");
  if (f.dtype != "auto")
    notice(
        fmt::format("--dtype {}: weights keep the checkpoint's type, sums are float32", f.dtype));
}

// Sampling defaults must be what a request could ask for.
void check_defaults(const GenerationConfig& g, const std::string& where) {
  const auto within = [&](const char* name, const std::optional<double>& value, double lo,
                          double hi, const char* range) {
    if (!value || (*value >= lo && *value <= hi)) return;  // NaN is not within
    throw usage_error("the sampling default is out of range")
        .file(where)
        .field(name)
        .expected(range)
        .found(fmt::format("{}", *value));
  };
  constexpr double kLargest = std::numeric_limits<double>::max();
  constexpr double kAboveZero = std::numeric_limits<double>::min();
  within("temperature", g.temperature, 0, kLargest, "at least 0");
  within("top_p", g.top_p, kAboveZero, 1, "above 0 and at most 1");
  within("min_p", g.min_p, 0, 1, "0 to 1");
  within("repetition_penalty", g.repetition_penalty, kMinRepetitionPenalty, kMaxRepetitionPenalty,
         "0.01 to 1000000");
}

void set_override(const std::string& text, GenerationConfig& g) {
  const std::string where = "--override-generation-config";
  const json o = flag_json(text, where, json::value_t::object);
  for (const auto& [key, value] : o.items()) {
    if (key == "temperature")
      g.temperature = get_number(o, "temperature", where);
    else if (key == "top_p")
      g.top_p = get_number(o, "top_p", where);
    else if (key == "min_p")
      g.min_p = get_number(o, "min_p", where);
    else if (key == "top_k")
      g.top_k = get_int(o, "top_k", where, -1, INT32_MAX);
    else if (key == "repetition_penalty")
      g.repetition_penalty = get_number(o, "repetition_penalty", where);
    else if (key == "max_new_tokens")
      g.max_new_tokens = get_int(o, "max_new_tokens", where, 1, INT32_MAX);
    else
      throw Error("unknown sampling default", ErrorKind::kUsage).field(where).found(key);
  }
}

void apply_override(const std::string& text, GenerationConfig& g) {
  try {
    set_override(text, g);
  } catch (const Error& e) {  // a value of the wrong type, say
    throw usage_error(e.what());
  }
  check_defaults(g, "--override-generation-config");
}

// The model's folder, or the one that --generation-config names; "vllm": none.
GenerationConfig generation_defaults(const ServeFlags& f) {
  if (f.generation_config == "vllm") return {};
  const bool own = f.generation_config == "auto";
  const fs::path folder = own ? f.runtime.model : f.generation_config;
  std::error_code ec;
  if (!own && !fs::is_directory(folder, ec))
    throw Error("no such folder", ErrorKind::kUsage)
        .field("--generation-config")
        .expected("auto, vllm or a folder with generation_config.json")
        .found(f.generation_config);
  const GenerationConfig defaults = GenerationConfig::load(folder);
  check_defaults(defaults, (folder / "generation_config.json").string());
  return defaults;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

void resolve_keys(ServeFlags& f) {
  std::vector<std::string>& keys = f.server.api_keys;
  if (std::find(keys.begin(), keys.end(), "") != keys.end())
    throw Error("a key is empty", ErrorKind::kUsage)
        .field("--api-key")
        .remedy("leave the flag out to serve without keys");
  const std::string& file = f.server.api_key_file;
  // What is wrong with it shows at once; it need not be where there is no server.
  if (!file.empty() && MpiJob::started_as() == 0) server::read_key_file(file);
  const auto none = [&] { return keys.empty() && file.empty(); };
  if (const char* lines = environment(kKeysVariable); keys.empty() && lines != nullptr)
    keys = lines_of(lines);
  if (const char* key = environment("VLLM_API_KEY"); none() && key != nullptr) keys = {key};
  if (none() && f.server.guard_all_paths)
    throw Error("there is no key to guard paths with", ErrorKind::kUsage)
        .field("--guard-all-paths")
        .expected("--api-key, --api-key-file or VLLM_API_KEY");
}

// Descriptors for everything but connections.
constexpr size_t kOtherDescriptors = 128;

// Every connection needs a descriptor: as many as the system gives, and no more connections.
void bound_connections(size_t& connections) {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t before = std::exchange(limit.rlim_cur, limit.rlim_max);
  if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) limit.rlim_cur = before;
  const auto descriptors = static_cast<size_t>(limit.rlim_cur);
  const size_t room = descriptors > 2 * kOtherDescriptors ? descriptors - kOtherDescriptors
                                                          : std::max<size_t>(descriptors / 2, 1);
  connections = std::min(connections, room);
}

}  // namespace

std::vector<std::string> without_keys(const std::vector<std::string>& command) {
  std::vector<std::string> rest;
  bool of_keys = false;  // the words that follow
  for (const std::string& word : command) {
    if (!word.starts_with("-") && of_keys) continue;
    std::string name = word.substr(0, word.find('='));
    std::replace(name.begin(), name.end(), '_', '-');
    of_keys = name == "--api-key";
    if (!of_keys) rest.push_back(word);
  }
  return rest;
}

void resolve(ServeFlags& f) {
  bound_connections(f.server.max_connections);
  f.server.tls.require_client_certificate = f.ssl_cert_reqs == 2;
  check_parallel(f);
  check_formats(f);
  if (f.runtime.model.empty()) f.runtime.model = f.model_argument;
  if (f.runtime.model.empty()) throw usage_error("octet serve: --model FOLDER is missing");
  if (!f.max_model_len.empty() && f.max_model_len != "auto" && f.max_model_len != "-1")
    f.runtime.max_model_len = parse_human_number(f.max_model_len, "--max-model-len");
  if (!f.kv_cache_bytes.empty())
    f.runtime.kv_bytes = parse_bytes(f.kv_cache_bytes, "--kv-cache-memory-bytes");
  else if (const char* gib = environment("VLLM_CPU_KVCACHE_SPACE"))
    f.runtime.kv_bytes = static_cast<uint64_t>(environment_number("VLLM_CPU_KVCACHE_SPACE", gib) *
                                               (uint64_t{1} << 30));
  static const std::map<std::string, kernels::FloatType> kv_types = {
      {"bfloat16", kernels::FloatType::kBF16}, {"float16", kernels::FloatType::kF16},
      {"half", kernels::FloatType::kF16},      {"float32", kernels::FloatType::kF32},
      {"float", kernels::FloatType::kF32},     {"int8", kernels::FloatType::kI8}};
  if (const auto it = kv_types.find(f.kv_cache_dtype); it != kv_types.end())
    f.runtime.kv_type = it->second;
  if (f.runtime.max_batched_tokens < f.runtime.max_sequences)
    throw Error("a step must have room for a token of every request", ErrorKind::kUsage)
        .field("--max-num-batched-tokens")
        .expected(fmt::format("at least --max-num-seqs, {}", f.runtime.max_sequences))
        .found(std::to_string(f.runtime.max_batched_tokens));

  server::ServerOptions& s = f.server;
  s.version = kVersion;
  s.model_path = f.runtime.model;
  if (s.served_model_names.empty()) s.served_model_names = {f.runtime.model};
  resolve_keys(f);
  if (const char* seconds = environment("VLLM_HTTP_TIMEOUT_KEEP_ALIVE"))
    s.keep_alive_seconds = environment_number("VLLM_HTTP_TIMEOUT_KEEP_ALIVE", seconds);
  if (const char* seconds = environment("VLLM_LOG_STATS_INTERVAL"))
    s.log_stats_seconds = environment_number("VLLM_LOG_STATS_INTERVAL", seconds);
  if (f.no_log_stats) s.log_stats_seconds = 0;
  s.access_log = !f.no_access_log && f.log_level != "warning" && f.log_level != "error" &&
                 f.log_level != "critical";
  if (!f.origins.empty()) s.cors.origins = string_list(f.origins, "--allowed-origins");
  if (!f.methods.empty()) s.cors.methods = string_list(f.methods, "--allowed-methods");
  if (!f.headers.empty()) s.cors.headers = string_list(f.headers, "--allowed-headers");
  s.defaults = generation_defaults(f);
  if (!f.override_generation_config.empty())
    apply_override(f.override_generation_config, s.defaults);
}

}  // namespace octet::cli
