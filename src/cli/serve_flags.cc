#include "src/cli/serve_flags.h"

namespace octet::cli {
namespace {

void add_model_and_clients(const Verb& verb, ServeFlags& f) {
  verb.text("MODEL", f.model_argument, "the model folder, float or W8A8");
  verb.text("--model", f.runtime.model, "the same as an option");
  verb.list("--served-model-name", f.server.served_model_names,
            "names by which clients may call it; the path is always one");
  verb.text("--host", f.server.host, "address to listen on; all when absent");
  verb.integer("--port", f.server.port, "port; 0 = a free one").show_default();
  verb.list("--api-key", f.server.api_keys, "clients must send one of these");
  verb.text("--api-key-file", f.server.api_key_file,
            "a file with more of them, one a line; read again on SIGHUP");
  verb.toggle(with_negation("--guard-all-paths"), f.server.guard_all_paths,
              "every path but /health and /ping needs a key");
  verb.text("--tokenizer", f.runtime.tokenizer, "folder of another tokenizer");
  verb.text("--chat-template", f.chat_template, "a file, or the template itself");
  verb.text("--chat-template-content-format", f.content_format,
            "auto, string or openai; templates always get strings")
      .one_of({"auto", "string", "openai"});
  verb.text("--logprobs-mode", f.logprobs_mode, "raw_logprobs");
  verb.text("--scheduling-policy", f.scheduling_policy, "fcfs");
  verb.text("--response-role", f.server.response_role, "role of answers").show_default();
}

void add_memory(const Verb& verb, ServeFlags& f) {
  verb.text("--max-model-len", f.max_model_len,
            "longest prompt and output together; 8k, 32K; auto = the model's");
  verb.integer("--max-num-seqs", f.runtime.max_sequences, "requests computed at once")
      .range(1, 65536)
      .show_default();
  verb.integer("--max-num-batched-tokens", f.runtime.max_batched_tokens, "tokens of one step")
      .range(1, 1 << 20)
      .show_default();
  verb.integer("--max-num-queued-reqs", f.runtime.max_queue, "waiting requests; more get 503")
      .range(1, 1 << 24)
      .show_default();
  add_head_flag(verb, f.runtime.head);
  verb.text("--kv-cache-memory-bytes", f.kv_cache_bytes,
            "memory for keys and values; at most 4 GiB and half of what is free by default");
  verb.text("--kv-cache-dtype", f.kv_cache_dtype,
            "auto (the checkpoint's int8, else bfloat16), bfloat16, float16, float32, int8")
      .one_of({"auto", "bfloat16", "float16", "half", "float32", "float", "int8"});
}

void add_answers(const Verb& verb, ServeFlags& f) {
  verb.text("--generation-config", f.generation_config,
            "sampling defaults: auto = the model's, vllm = none, or a folder");
  verb.text("--override-generation-config", f.override_generation_config, "JSON");
  verb.integer("--max-logprobs", f.server.max_logprobs, "per token; -1 = no bound").show_default();
}

void add_ranks(const Verb& verb, ServeFlags& f) {
  verb.integer("--tensor-parallel-size,--tp", f.tensor_parallel,
               "ranks: processes that share the model, at most one a query head");
  verb.integer("--pipeline-parallel-size,--pp", f.pipeline_parallel, "only 1");
  verb.integer("--data-parallel-size,--dp", f.data_parallel, "only 1");
  verb.text("--distributed-executor-backend", f.backend, "who starts ranks: mp, ray, mpi, uni")
      .one_of({"mp", "ray", "mpi", "uni", "external_launcher"});
  verb.toggle("--restart-ranks{3}", f.restart_ranks,
              "when ranks end, start them again; =N: at most N times in a row (3)");
}

void add_formats(const Verb& verb, ServeFlags& f) {
  verb.text("--quantization,-q", f.quantization,
            "ascend or compressed-tensors; read from the checkpoint");
  verb.text("--dtype", f.dtype, "accepted; the checkpoint's type is kept")
      .one_of({"auto", "half", "float16", "bfloat16", "float", "float32"});
  verb.text("--load-format", f.load_format, "auto or safetensors");
  verb.text("--device", f.device, "auto or cpu");
}

void add_http(const Verb& verb, ServeFlags& f) {
  verb.text("--root-path", f.server.root_path, "prefix that a proxy adds to paths");
  verb.text("--ssl-keyfile", f.server.tls.key_file, "serve HTTPS with this key");
  verb.text("--ssl-certfile", f.server.tls.certificate_file, "and this certificate");
  verb.text("--ssl-ca-certs", f.server.tls.ca_file, "authorities for client certificates");
  verb.integer("--ssl-cert-reqs", f.ssl_cert_reqs, "2 = demand client certificates")
      .one_of({"0", "2"});
  verb.text("--allowed-origins", f.origins, "JSON list, for browsers");
  verb.text("--allowed-methods", f.methods, "JSON list");
  verb.text("--allowed-headers", f.headers, "JSON list");
  verb.toggle(with_negation("--allow-credentials"), f.server.cors.credentials, "for browsers");
}

void add_logs_and_extras(const Verb& verb, ServeFlags& f) {
  verb.text("--uvicorn-log-level", f.log_level, "warning and above: no access log")
      .one_of({"debug", "info", "warning", "error", "critical", "trace"});
  verb.toggle(with_negation("--disable-uvicorn-access-log"), f.no_access_log,
              "no line for each request");
  verb.toggle(with_negation("--disable-log-stats"), f.no_log_stats, "no periodic line of figures");
  verb.toggle(with_negation("--return-tokens-as-token-ids"), f.server.return_tokens_as_token_ids,
              "logprobs name tokens as token_id:N");
  verb.toggle(with_negation("--enable-request-id-headers"), f.server.enable_request_id_headers,
              "answers carry X-Request-Id");
  verb.toggle(with_negation("--enable-force-include-usage"), f.server.force_include_usage,
              "every stream ends with usage");
}

}  // namespace

void add_serve_flags(const Verb& verb, ServeFlags& f) {
  add_model_and_clients(verb, f);
  add_memory(verb, f);
  add_answers(verb, f);
  add_ranks(verb, f);
  add_formats(verb, f);
  add_http(verb, f);
  add_logs_and_extras(verb, f);
  add_known_flags(verb);
}

std::string with_negation(const std::string& name) { return name + ",!--no-" + name.substr(2); }

}  // namespace octet::cli
