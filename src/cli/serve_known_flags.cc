// vLLM's flags that `octet serve` knows and does not use; docs/serve.md has their names, too, which
// tests/cli/help_test.py compares with these.
#include <fmt/format.h>

#include <array>

#include "src/base/error.h"
#include "src/cli/cli.h"
#include "src/cli/serve_flags.h"

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
    {"--enable-ssl-refresh", 0, "SIGHUP reads certificates again"},
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

void add_without_meaning(const Verb& verb, const Known& k) {
  const std::string name = std::string(k.name).substr(0, std::string(k.name).find(','));
  const auto note = [name, reason = k.reason] {
    notice(fmt::format("{} has no effect: {}", name, reason));
  };
  const Flag flag = k.values == 0
                        ? verb.on_toggle(
                              with_negation(k.name), [note](int64_t) { note(); }, k.reason)
                        : verb.on_text(
                              k.name, [note](const std::string&) { note(); }, k.reason);
  flag.group("Of vLLM, accepted without effect");
}

void add_refused(const Verb& verb, const Known& k) {
  const auto refuse = [k] {
    throw Error("this flag cannot be used", ErrorKind::kUsage).field(k.name).remedy(k.reason);
  };
  const Flag flag = k.values == 0 ? verb.on_toggle(
                                        with_negation(k.name),
                                        [refuse](int64_t times) {
                                          if (times > 0) refuse();
                                        },
                                        k.reason)
                                  : verb.on_list(
                                        k.name, [refuse](const auto&) { refuse(); }, k.reason);
  flag.group("Of vLLM, refused");
}

}  // namespace

void add_known_flags(const Verb& verb) {
  for (const Known& k : kNoMeaning) add_without_meaning(verb, k);
  for (const Known& k : kRefused) add_refused(verb, k);
}

}  // namespace octet::cli
