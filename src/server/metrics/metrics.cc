#include "src/server/metrics/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/summary.h>
#include <prometheus/text_serializer.h>

#include <vector>

#include "src/server/metrics/process_figures.h"

namespace octet::server {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;
using prometheus::Summary;
using Buckets = Histogram::BucketBoundaries;

const Buckets kFirstToken = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75,
                             1,     2.5,   5,    7.5,  10,   20,   40,   80,  160,  640, 2560};
const Buckets kNextToken = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5,
                            0.75, 1,     2.5,  5,     7.5, 10,   20,  40,  80};
const Buckets kLatency = {0.3, 0.5, 0.8, 1,  1.5, 2,   2.5, 5,   10,   15,  20,
                          30,  40,  50,  60, 120, 240, 480, 960, 1920, 7680};
const Buckets kStepTokens = {1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384};
// Those of prometheus-fastapi-instrumentator, which vLLM uses: by route, and over all routes.
const Buckets kHttpSeconds = {0.1, 0.5, 1};
const Buckets kHttpSecondsOfAll = {0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1,  1.5, 2,
                                   2.5,  3,     3.5,  4,     4.5, 5,    7.5, 10,   30, 60};

// 1, 2, 5, 10, 20, 50, ... up to `limit`.
Buckets ladder(size_t limit) {
  Buckets buckets;
  for (double decade = 1;; decade *= 10)
    for (double step : {1.0, 2.0, 5.0}) {
      if (step * decade > static_cast<double>(limit)) return buckets;
      buckets.push_back(step * decade);
    }
}

double seconds(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

const char* type_name(kernels::FloatType type) {
  switch (type) {
    case kernels::FloatType::kF16:
      return "float16";
    case kernels::FloatType::kBF16:
      return "bfloat16";
    case kernels::FloatType::kI8:
      return "int8";
    case kernels::FloatType::kF32:
      return "float32";
  }
  OCTET_CHECK(false);
}

bool known(Clock::time_point t) { return t != Clock::time_point(); }

}  // namespace

struct Metrics::Impl {
  Impl(const std::string& model_name, const EngineOptions& engine)
      : labels{{"model_name", model_name}, {"engine", "0"}}, tokens(ladder(engine.max_model_len)) {
    auto& info = prometheus::BuildGauge()
                     .Name("vllm:cache_config_info")
                     .Help("The settings of the KV cache.")
                     .Labels(labels)
                     .Register(registry);
    info.Add({{"block_size", std::to_string(kBlockTokens)},
              {"num_gpu_blocks", std::to_string(engine.kv_blocks)},
              {"cache_dtype", type_name(engine.kv_type)},
              {"enable_prefix_caching", "False"}})
        .Set(1);
    for (const char* reason : {"stop", "length", "abort", "error"})
      finished.push_back(&success.Add({{"finished_reason", reason}}));
  }

  Counter& counter(const char* name, const char* help) {
    return prometheus::BuildCounter().Name(name).Help(help).Labels(labels).Register(registry).Add(
        {});
  }
  Gauge& gauge(const char* name, const char* help) {
    return prometheus::BuildGauge().Name(name).Help(help).Labels(labels).Register(registry).Add({});
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Labels(labels).Register(registry).Add(
        {}, buckets);
  }

  // Counters kept elsewhere: raised to what they are there.
  static void raise(Counter& counter, uint64_t to) {
    counter.Increment(static_cast<double>(to) - counter.Value());
  }

  prometheus::Registry registry;
  const prometheus::Labels labels;
  const Buckets tokens;

  Gauge& running = gauge("vllm:num_requests_running", "Sequences being computed.");
  Gauge& waiting = gauge("vllm:num_requests_waiting", "Sequences waiting.");
  Gauge& kv = gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1.");
  Gauge& kv_old = gauge("vllm:gpu_cache_usage_perc", "Old name of vllm:kv_cache_usage_perc.");
  Counter& prompt = counter("vllm:prompt_tokens_total", "Prompt tokens computed.");
  Counter& generation = counter("vllm:generation_tokens_total", "Tokens generated.");
  Counter& preemptions = counter("vllm:num_preemptions_total", "Sequences set back to wait.");
  Family<Counter>& success = prometheus::BuildCounter()
                                 .Name("vllm:request_success_total")
                                 .Help("Finished sequences by reason.")
                                 .Labels(labels)
                                 .Register(registry);
  std::vector<Counter*> finished;  // by FinishReason

  Histogram& first_token = histogram("vllm:time_to_first_token_seconds",
                                     "From arrival to the first token.", kFirstToken);
  Histogram& next_token =
      histogram("vllm:inter_token_latency_seconds", "Between tokens of a sequence.", kNextToken);
  Histogram& next_token_old =
      histogram("vllm:time_per_output_token_seconds",
                "Old name of vllm:inter_token_latency_seconds.", kNextToken);
  Histogram& mean_token = histogram("vllm:request_time_per_output_token_seconds",
                                    "Mean time between the tokens of a request.", kNextToken);
  Histogram& latency =
      histogram("vllm:e2e_request_latency_seconds", "From arrival to the last token.", kLatency);
  Histogram& queue = histogram("vllm:request_queue_time_seconds", "Time spent waiting.", kLatency);
  Histogram& prefill = histogram("vllm:request_prefill_time_seconds",
                                 "From being scheduled to the first token.", kLatency);
  Histogram& decode =
      histogram("vllm:request_decode_time_seconds", "From the first token to the last.", kLatency);
  Histogram& inference = histogram("vllm:request_inference_time_seconds",
                                   "From being scheduled to the last token.", kLatency);
  Histogram& prompt_size =
      histogram("vllm:request_prompt_tokens", "Prompt tokens of a request.", tokens);
  Histogram& output_size =
      histogram("vllm:request_generation_tokens", "Tokens generated for a request.", tokens);
  Histogram& output_limit =
      histogram("vllm:request_params_max_tokens", "max_tokens of a request.", tokens);
  Histogram& longest_output = histogram("vllm:request_max_num_generation_tokens",
                                        "Tokens of a request's longest answer.", tokens);
  Histogram& answers = histogram("vllm:request_params_n", "n of a request.", {1, 2, 5, 10, 20});
  Histogram& step_tokens =
      histogram("vllm:iteration_tokens_total", "Tokens of one engine step.", kStepTokens);

  Family<Counter>& http_requests = prometheus::BuildCounter()
                                       .Name("http_requests_total")
                                       .Help("HTTP requests answered.")
                                       .Register(registry);
  Family<Summary>& http_request_bytes = prometheus::BuildSummary()
                                            .Name("http_request_size_bytes")
                                            .Help("Content-Length of requests.")
                                            .Register(registry);
  Family<Summary>& http_response_bytes = prometheus::BuildSummary()
                                             .Name("http_response_size_bytes")
                                             .Help("Content-Length of answers.")
                                             .Register(registry);
  Histogram& http_seconds_of_all =
      prometheus::BuildHistogram()
          .Name("http_request_duration_highr_seconds")
          .Help("From the request to the whole answer, all routes together.")
          .Register(registry)
          .Add({}, kHttpSecondsOfAll);
  Family<Histogram>& http_seconds = prometheus::BuildHistogram()
                                        .Name("http_request_duration_seconds")
                                        .Help("From the request to the whole answer.")
                                        .Register(registry);
  ProcessFigures process{registry};
};

Metrics::Metrics(const std::string& model_name, const EngineOptions& engine)
    : impl_(std::make_unique<Impl>(model_name, engine)) {}
Metrics::~Metrics() = default;

void Metrics::on_step(size_t prompt_tokens, size_t generated_tokens) {
  impl_->step_tokens.Observe(static_cast<double>(prompt_tokens + generated_tokens));
}

void Metrics::on_first_token(double seconds_since_arrival) {
  impl_->first_token.Observe(seconds_since_arrival);
}

void Metrics::on_next_token(double seconds_since_last) {
  impl_->next_token.Observe(seconds_since_last);
  impl_->next_token_old.Observe(seconds_since_last);
}

void Metrics::on_finish(const Request& request, size_t output_tokens, FinishReason reason,
                        const RequestTimes& t) {
  Impl& m = *impl_;
  m.finished[static_cast<size_t>(reason)]->Increment();
  const auto end = known(t.last_token) ? t.last_token : Clock::now();
  m.latency.Observe(seconds(t.arrived, end));
  m.queue.Observe(seconds(t.arrived, known(t.scheduled) ? t.scheduled : end));
  if (known(t.first_token)) {
    m.prefill.Observe(seconds(t.scheduled, t.first_token));
    m.decode.Observe(seconds(t.first_token, end));
    m.inference.Observe(seconds(t.scheduled, end));
  }
  if (output_tokens > 1)
    m.mean_token.Observe(seconds(t.first_token, end) / static_cast<double>(output_tokens - 1));
  m.prompt_size.Observe(static_cast<double>(request.prompt.size()));
  m.output_size.Observe(static_cast<double>(output_tokens));
  m.output_limit.Observe(static_cast<double>(request.sampling.max_tokens));
}

void Metrics::on_prompt_done(size_t n, size_t longest) {
  impl_->answers.Observe(static_cast<double>(n));
  impl_->longest_output.Observe(static_cast<double>(longest));
}

void Metrics::on_http(const HttpFigures& f) {
  Impl& m = *impl_;
  const std::string handler(f.handler), method(f.method);
  m.http_requests
      .Add({{"handler", handler},
            {"method", method},
            {"status", std::to_string(f.status / 100) + "xx"}})
      .Increment();
  m.http_seconds.Add({{"handler", handler}, {"method", method}}, kHttpSeconds).Observe(f.seconds);
  m.http_seconds_of_all.Observe(f.seconds);
  const Summary::Quantiles none;
  m.http_request_bytes.Add({{"handler", handler}}, none)
      .Observe(static_cast<double>(f.request_bytes));
  m.http_response_bytes.Add({{"handler", handler}}, none)
      .Observe(static_cast<double>(f.response_bytes));
}

std::string Metrics::text(const EngineStats& stats) {
  Impl& m = *impl_;
  m.running.Set(static_cast<double>(stats.running));
  m.waiting.Set(static_cast<double>(stats.waiting));
  m.kv.Set(stats.kv_usage);
  m.kv_old.Set(stats.kv_usage);
  Impl::raise(m.prompt, stats.prompt_tokens);
  Impl::raise(m.generation, stats.generation_tokens);
  Impl::raise(m.preemptions, stats.preemptions);
  m.process.update();
  return prometheus::TextSerializer().Serialize(m.registry.Collect());
}

}  // namespace octet::server
