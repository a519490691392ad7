#include "src/cli/serve_flags.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_job.h"
#include "src/machine/topology.h"

namespace octet::cli {
namespace {

// A flag that Octet knows but does not use. `values`: how many words it takes.
struct Known {
  const char* name;
  int values;
  const char* reason;
};

// Accepted with a one-line notice: nothing a client sees depends on them here.
constexpr std::array<Known, 47> kNoMeaning = {{
    {"--enforce-eager", 0, "there are no graphs to capture on a CPU"},
    {"--trust-remote-code", 0, "no code of a model folder is ever run"},
    {"--revision", 1, "models are local folders"},
    {"--tokenizer-revision", 1, "models are local folders"},
    {"--code-revision", 1, "models are local folders"},
    {"--download-dir", 1, "models are local folders"},
    {"--tokenizer-mode", 1, "there is one tokenizer implementation"},
    {"--gpu-memory-utilization", 1, "there is no GPU; see --kv-cache-memory-bytes"},
    {"--block-size", 1, "KV pages hold 32 tokens"},
    {"--swap-space", 1, "preempted requests are computed again"},
    {"--cpu-offload-gb", 1, "weights are in CPU memory anyway"},
    {"--enable-chunked-prefill", 0, "prefill is always chunked"},
    {"--enable-prefix-caching", 0, "prefixes are not cached yet"},
    {"--prefix-caching-hash-algo", 1, "prefixes are not cached yet"},
    {"--disable-log-requests", 0, "requests are logged by the access log only"},
    {"--enable-log-requests", 0, "prompts are never logged"},
    {"--enable-log-outputs", 0, "outputs are never logged"},
    {"--max-log-len", 1, "prompts are never logged"},
    {"--log-error-stack", 0, "errors are one line"},
    {"--disable-fastapi-docs", 0, "there are no such pages"},
    {"--disable-frontend-multiprocessing", 0, "there is one process"},
    {"--api-server-count", 1, "there is one front end"},
    {"--h11-max-incomplete-event-size", 1, "headers may have 64 KiB"},
    {"--h11-max-header-count", 1, "headers may have 64 KiB"},
    {"--seed", 1, "a request without a seed gets a fresh one"},
    {"--max-seq-len-to-capture", 1, "there are no graphs to capture on a CPU"},
    {"--num-gpu-blocks-override", 1, "see --kv-cache-memory-bytes"},
    {"--max-parallel-loading-workers", 1, "loading uses all threads"},
    {"--disable-custom-all-reduce", 0, "there is one way to add up over the ranks"},
    {"--num-scheduler-steps", 1, "every step is scheduled"},
    {"--preemption-mode", 1, "preempted requests are computed again"},
    {"--compilation-config,-O", 1, "nothing is compiled at run time"},
    {"--show-hidden-metrics-for-version", 1, "no metric is hidden"},
    {"--collect-detailed-traces", 1, "there is no tracing"},
    {"--enable-server-load-tracking", 0, "/load is always there"},
    {"--enable-prompt-tokens-details", 0, "no prompt token comes from a cache"},
    {"--stream-interval", 1, "every token is sent when it is there"},
    {"--async-scheduling", 0, "the engine has its own thread"},
    {"--use-v2-block-manager", 0, "there is one block manager"},
    {"--ray-workers-use-nsight", 0, "there is no GPU"},
    {"--enable-ssl-refresh", 0, "certificates are read at start"},
    {"--long-prefill-token-threshold", 1, "long prompts never stall the others"},
    {"--trust-request-chat-template", 0, "requests with a template of their own get 400"},
    {"--enable-tokenizer-info-endpoint", 0, "there is no /tokenizer_info"},
    {"--max-num-queued-tokens", 1, "the queue is bounded by --max-num-queued-reqs"},
    {"--structured-outputs-config.backend", 1, "requests for structured output get 400"},
    {"--guided-decoding-backend", 1, "requests for structured output get 400"},
}};

// Refused: ignoring them would change what clients get.
constexpr std::array<Known, 26> kRefused = {{
    {"--enable-lora", 0, "LoRA adapters are not supported"},
    {"--lora-modules", -1, "LoRA adapters are not supported"},
    {"--prompt-adapters", -1, "prompt adapters are not supported"},
    {"--speculative-config", 1, "speculative decoding is not supported yet"},
    {"--speculative-model", 1, "speculative decoding is not supported yet"},
    {"--num-speculative-tokens", 1, "speculative decoding is not supported yet"},
    {"--enable-auto-tool-choice", 0, "tool calls are not parsed yet"},
    {"--tool-call-parser", 1, "tool calls are not parsed yet"},
    {"--tool-parser-plugin", 1, "Python plugins cannot be loaded"},
    {"--reasoning-parser", 1, "reasoning is not parsed yet"},
    {"--enable-reasoning", 0, "reasoning is not parsed yet"},
    {"--structured-outputs-config", 1, "constrained decoding is not supported yet"},
    {"--exclude-tools-when-tool-choice-none", 0, "leave tools out of the requests instead"},
    {"--hf-overrides", 1, "change config.json instead"},
    {"--hf-config-path", 1, "config.json is read from the model folder"},
    {"--rope-scaling", 1, "change config.json instead"},
    {"--rope-theta", 1, "change config.json instead"},
    {"--middleware", -1, "Python middleware cannot be loaded"},
    {"--logits-processors", -1, "Python logits processors cannot be loaded"},
    {"--logits-processor-pattern", 1, "Python logits processors cannot be loaded"},
    {"--task", 1, "models generate text, nothing else"},
    {"--runner", 1, "models generate text, nothing else"},
    {"--config", 1, "configuration files are not supported yet; give flags"},
    {"--uds", 1, "Unix sockets are not supported yet"},
    {"--kv-transfer-config", 1, "KV transfer is not supported yet"},
    {"--headless", 0, "the first rank serves; mpirun or Ray starts the others"},
}};

// "--x" as "--x,!--no-x": every flag of vLLM has both forms.
std::string with_negation(const std::string& name) { return name + ",!--no-" + name.substr(2); }

void add_known(CLI::App* app) {
  for (const Known& k : kNoMeaning) {
    const std::string name = std::string(k.name).substr(0, std::string(k.name).find(','));
    const auto note = [name, reason = k.reason] {
      notice(fmt::format("{} has no effect: {}", name, reason));
    };
    CLI::Option* option = k.values == 0
                              ? app->add_flag_function(
                                    with_negation(k.name), [note](int64_t) { note(); }, k.reason)
                              : app->add_option_function<std::string>(
                                    k.name, [note](const std::string&) { note(); }, k.reason);
    option->group("Of vLLM, accepted without effect");
  }
  for (const Known& k : kRefused) {
    const auto refuse = [k]() -> void {
      throw Error("this flag cannot be used", ErrorKind::kUsage).field(k.name).remedy(k.reason);
    };
    CLI::Option* option =
        k.values == 0
            ? app->add_flag_function(
                  with_negation(k.name),
                  [refuse](int64_t given) {
                    if (given > 0) refuse();
                  },
                  k.reason)
            : app->add_option_function<std::vector<std::string>>(
                     k.name, [refuse](const std::vector<std::string>&) { refuse(); }, k.reason)
                  ->expected(1, -1);
    option->group("Of vLLM, refused");
  }
}

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

}  // namespace

void add_serve_flags(CLI::App* app, ServeFlags& f) {
  app->add_option("MODEL", f.model_argument, "the model folder, float or W8A8");
  app->add_option("--model", f.runtime.model, "the same as an option");
  app->add_option("--served-model-name", f.server.served_model_names,
                  "names by which clients may call it; the path is always one")
      ->expected(1, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app->add_option("--host", f.server.host, "address to listen on; all when absent");
  app->add_option("--port", f.server.port, "port; 0 = a free one")->capture_default_str();
  app->add_option("--api-key", f.server.api_keys, "clients must send one of these")
      ->expected(1, -1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  app->add_option("--tokenizer", f.runtime.tokenizer, "folder of another tokenizer");
  app->add_option("--chat-template", f.chat_template, "a file, or the template itself");
  app->add_option("--chat-template-content-format", f.content_format,
                  "auto, string or openai; templates always get strings")
      ->check(CLI::IsMember({"auto", "string", "openai"}));
  app->add_option("--logprobs-mode", f.logprobs_mode, "raw_logprobs");
  app->add_option("--scheduling-policy", f.scheduling_policy, "fcfs");
  app->add_option("--response-role", f.server.response_role, "role of answers")
      ->capture_default_str();
  app->add_option("--max-model-len", f.max_model_len,
                  "longest prompt and output together; 8k, 32K; auto = the model's");
  app->add_option("--max-num-seqs", f.runtime.max_sequences, "requests computed at once")
      ->check(CLI::Range(1, 65536))
      ->capture_default_str();
  app->add_option("--max-num-batched-tokens", f.runtime.max_batched_tokens, "tokens of one step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--max-num-queued-reqs", f.runtime.max_queue, "waiting requests; more get 503")
      ->check(CLI::Range(1, 1 << 24))
      ->capture_default_str();
  app->add_option("--kv-cache-memory-bytes", f.kv_cache_bytes,
                  "memory for keys and values; at most 4 GiB and half of what is free by default");
  app->add_option("--kv-cache-dtype", f.kv_cache_dtype,
                  "auto (the checkpoint's int8, else bfloat16), bfloat16, float16, float32, int8")
      ->check(CLI::IsMember({"auto", "bfloat16", "float16", "half", "float32", "float", "int8"}));
  app->add_option("--generation-config", f.generation_config,
                  "sampling defaults: auto = the model's, vllm = none, or a folder");
  app->add_option("--override-generation-config", f.override_generation_config, "JSON");
  app->add_option("--max-logprobs", f.server.max_logprobs, "per token; -1 = no bound")
      ->capture_default_str();
  app->add_option("--tensor-parallel-size,--tp", f.tensor_parallel,
                  "ranks: processes that share the model, at most one a query head");
  app->add_option("--pipeline-parallel-size,--pp", f.pipeline_parallel, "only 1");
  app->add_option("--data-parallel-size,--dp", f.data_parallel, "only 1");
  app->add_option("--distributed-executor-backend", f.backend,
                  "who starts ranks: mp, ray, mpi, uni")
      ->check(CLI::IsMember({"mp", "ray", "mpi", "uni", "external_launcher"}));
  app->add_flag("--restart-ranks{3}", f.restart_ranks,
                "when ranks end, start them again; =N: at most N times in a row (3)");
  app->add_option("--quantization,-q", f.quantization,
                  "ascend or compressed-tensors; read from the checkpoint");
  app->add_option("--dtype", f.dtype, "accepted; the checkpoint's type is kept")
      ->check(CLI::IsMember({"auto", "half", "float16", "bfloat16", "float", "float32"}));
  app->add_option("--load-format", f.load_format, "auto or safetensors");
  app->add_option("--device", f.device, "auto or cpu");
  app->add_option("--root-path", f.server.root_path, "prefix that a proxy adds to paths");
  app->add_option("--ssl-keyfile", f.server.tls.key_file, "serve HTTPS with this key");
  app->add_option("--ssl-certfile", f.server.tls.certificate_file, "and this certificate");
  app->add_option("--ssl-ca-certs", f.server.tls.ca_file, "authorities for client certificates");
  app->add_option_function<int>(
         "--ssl-cert-reqs", [&f](int v) { f.server.tls.require_client_certificate = v == 2; },
         "2 = demand client certificates")
      ->check(CLI::IsMember({"0", "2"}));
  app->add_option("--allowed-origins", f.origins, "JSON list, for browsers");
  app->add_option("--allowed-methods", f.methods, "JSON list");
  app->add_option("--allowed-headers", f.headers, "JSON list");
  app->add_flag("--allow-credentials,!--no-allow-credentials", f.server.cors.credentials,
                "for browsers");
  app->add_option("--uvicorn-log-level", f.log_level, "warning and above: no access log")
      ->check(CLI::IsMember({"debug", "info", "warning", "error", "critical", "trace"}));
  app->add_flag("--disable-uvicorn-access-log,!--no-disable-uvicorn-access-log", f.no_access_log,
                "no line for each request");
  app->add_flag("--disable-log-stats,!--no-disable-log-stats", f.no_log_stats,
                "no periodic line of figures");
  app->add_flag("--return-tokens-as-token-ids,!--no-return-tokens-as-token-ids",
                f.server.return_tokens_as_token_ids, "logprobs name tokens as token_id:N");
  app->add_flag("--enable-request-id-headers,!--no-enable-request-id-headers",
                f.server.enable_request_id_headers, "answers carry X-Request-Id");
  app->add_flag("--enable-force-include-usage,!--no-enable-force-include-usage",
                f.server.force_include_usage, "every stream ends with usage");
  add_known(app);
}

void resolve(ServeFlags& f) {
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
  if (s.api_keys.empty())
    if (const char* key = environment("VLLM_API_KEY")) s.api_keys = {key};
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
