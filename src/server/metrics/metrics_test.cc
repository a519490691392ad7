// The exposition text of a short history, against values worked out by hand.
#include "src/server/metrics/metrics.h"

#include <gtest/gtest.h>

#include <chrono>
#include <sstream>

namespace octet::server {
namespace {

using std::chrono::milliseconds;

class MetricsTest : public ::testing::Test {
 protected:
  static EngineOptions engine_options() {
    EngineOptions o;
    o.max_model_len = 10;
    o.kv_blocks = 4;
    o.kv_type = kernels::FloatType::kBF16;
    return o;
  }
  static Request request(size_t prompt, size_t max_tokens) {
    Request r;
    r.prompt.assign(prompt, 1);
    r.sampling.max_tokens = max_tokens;
    return r;
  }
  // The value of one series of the model: its name, and labels beside the model's.
  std::string value(const std::string& name, const std::string& labels = "") const {
    return line(name + R"({engine="0",model_name="tiny")" + (labels.empty() ? "" : ",") + labels +
                "}");
  }
  std::string line(const std::string& series) const {
    std::istringstream lines(text_);
    for (std::string l; std::getline(lines, l);)
      if (l.starts_with(series + " ")) return l.substr(series.size() + 1);
    return "no such series";
  }
  std::string bucket(const std::string& name, const std::string& le) const {
    return value(name + "_bucket", "le=\"" + le + "\"");
  }
  void expect_histogram(const std::string& name, const char* count, const char* sum) const {
    EXPECT_EQ(value(name + "_count"), count) << name;
    EXPECT_EQ(value(name + "_sum"), sum) << name;
  }

  Metrics metrics_{"tiny", engine_options()};
  std::string text_;
};

TEST_F(MetricsTest, EverySeriesIsThereAtZero) {
  text_ = metrics_.text({});
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc", "vllm:prompt_tokens_total", "vllm:generation_tokens_total",
        "vllm:num_preemptions_total"})
    EXPECT_EQ(value(name), "0") << name;
  for (const char* reason : {"stop", "length", "abort", "error"})
    EXPECT_EQ(
        value("vllm:request_success_total", "finished_reason=\"" + std::string(reason) + "\""),
        "0");
  for (const char* name :
       {"vllm:time_to_first_token_seconds", "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds", "vllm:request_time_per_output_token_seconds",
        "vllm:e2e_request_latency_seconds", "vllm:request_queue_time_seconds",
        "vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds", "vllm:request_prompt_tokens",
        "vllm:request_generation_tokens", "vllm:request_params_max_tokens",
        "vllm:request_max_num_generation_tokens", "vllm:request_params_n",
        "vllm:iteration_tokens_total"})
    expect_histogram(name, "0", "0");
  EXPECT_EQ(value("vllm:cache_config_info",
                  R"(block_size="32",cache_dtype="bfloat16",enable_prefix_caching="False",)"
                  R"(num_gpu_blocks="4")"),
            "1");
}

// Arrives at 0, is scheduled at 0.5 s, has its tokens at 1, 1.25 and 2 s.
TEST_F(MetricsTest, OneRequest) {
  const Clock::time_point begin(std::chrono::hours(1));
  metrics_.on_prompt_done(1, 3);
  metrics_.on_step(6, 1);
  metrics_.on_first_token(1);
  metrics_.on_step(0, 1);
  metrics_.on_next_token(0.25);
  metrics_.on_step(0, 1);
  metrics_.on_next_token(0.75);
  metrics_.on_finish(
      request(6, 3), 3, FinishReason::kLength,
      {begin, begin + milliseconds(500), begin + milliseconds(1000), begin + milliseconds(2000)});
  text_ = metrics_.text({});

  EXPECT_EQ(value("vllm:request_success_total", "finished_reason=\"length\""), "1");
  EXPECT_EQ(value("vllm:request_success_total", "finished_reason=\"stop\""), "0");
  expect_histogram("vllm:time_to_first_token_seconds", "1", "1");
  expect_histogram("vllm:inter_token_latency_seconds", "2", "1");
  expect_histogram("vllm:time_per_output_token_seconds", "2", "1");
  expect_histogram("vllm:request_time_per_output_token_seconds", "1", "0.5");
  expect_histogram("vllm:e2e_request_latency_seconds", "1", "2");
  expect_histogram("vllm:request_queue_time_seconds", "1", "0.5");
  expect_histogram("vllm:request_prefill_time_seconds", "1", "0.5");
  expect_histogram("vllm:request_decode_time_seconds", "1", "1");
  expect_histogram("vllm:request_inference_time_seconds", "1", "1.5");
  expect_histogram("vllm:request_prompt_tokens", "1", "6");
  expect_histogram("vllm:request_generation_tokens", "1", "3");
  expect_histogram("vllm:request_max_num_generation_tokens", "1", "3");
  expect_histogram("vllm:request_params_max_tokens", "1", "3");
  expect_histogram("vllm:request_params_n", "1", "1");
  expect_histogram("vllm:iteration_tokens_total", "3", "9");

  // Buckets hold what is at most their bound: 0.25 and 0.75; 7, 1 and 1; 6 of 1, 2, 5, 10.
  EXPECT_EQ(bucket("vllm:inter_token_latency_seconds", "0.2"), "0");
  EXPECT_EQ(bucket("vllm:inter_token_latency_seconds", "0.3"), "1");
  EXPECT_EQ(bucket("vllm:inter_token_latency_seconds", "0.75"), "2");
  EXPECT_EQ(bucket("vllm:iteration_tokens_total", "1"), "2");
  EXPECT_EQ(bucket("vllm:iteration_tokens_total", "8"), "3");
  EXPECT_EQ(bucket("vllm:request_prompt_tokens", "5"), "0");
  EXPECT_EQ(bucket("vllm:request_prompt_tokens", "10"), "1");
  EXPECT_EQ(bucket("vllm:request_prompt_tokens", "20"), "no such series") << "beyond the context";
}

TEST_F(MetricsTest, AbortedBeforeItRan) {
  metrics_.on_finish(request(2, 3), 0, FinishReason::kAbort, {Clock::now(), {}, {}, {}});
  text_ = metrics_.text({});
  EXPECT_EQ(value("vllm:request_success_total", "finished_reason=\"abort\""), "1");
  EXPECT_EQ(value("vllm:e2e_request_latency_seconds_count"), "1");
  EXPECT_EQ(value("vllm:request_queue_time_seconds_count"), "1");
  for (const char* name :
       {"vllm:request_prefill_time_seconds", "vllm:request_decode_time_seconds",
        "vllm:request_inference_time_seconds", "vllm:request_time_per_output_token_seconds"})
    EXPECT_EQ(value(std::string(name) + "_count"), "0") << name;
  expect_histogram("vllm:request_generation_tokens", "1", "0");
}

TEST_F(MetricsTest, TheEnginesOwnFigures) {
  EngineStats stats;
  stats.running = 3;
  stats.waiting = 2;
  stats.kv_usage = 0.25;
  stats.prompt_tokens = 100;
  stats.generation_tokens = 40;
  stats.preemptions = 1;
  metrics_.text(stats);
  stats.running = 1;
  stats.prompt_tokens = 130;
  text_ = metrics_.text(stats);
  EXPECT_EQ(value("vllm:num_requests_running"), "1");
  EXPECT_EQ(value("vllm:num_requests_waiting"), "2");
  EXPECT_EQ(value("vllm:kv_cache_usage_perc"), "0.25");
  EXPECT_EQ(value("vllm:gpu_cache_usage_perc"), "0.25");
  EXPECT_EQ(value("vllm:prompt_tokens_total"), "130");
  EXPECT_EQ(value("vllm:generation_tokens_total"), "40");
  EXPECT_EQ(value("vllm:num_preemptions_total"), "1");
}

// Names, labels and buckets of prometheus-fastapi-instrumentator.
TEST_F(MetricsTest, HttpRequests) {
  metrics_.on_http({"/version", "GET", 200, 0.25, 10, 100});
  metrics_.on_http({"/version", "GET", 204, 0.5, 0, 50});
  metrics_.on_http({"/version", "GET", 401, 0.25, 1, 0});
  metrics_.on_http({"/other", "POST", 200, 2, 5, 0});
  text_ = metrics_.text({});
  EXPECT_EQ(line(R"(http_requests_total{handler="/version",method="GET",status="2xx"})"), "2");
  EXPECT_EQ(line(R"(http_requests_total{handler="/version",method="GET",status="4xx"})"), "1");
  EXPECT_EQ(line(R"(http_request_size_bytes_sum{handler="/version"})"), "11");
  EXPECT_EQ(line(R"(http_request_size_bytes_count{handler="/version"})"), "3");
  EXPECT_EQ(line(R"(http_response_size_bytes_sum{handler="/version"})"), "150");
  EXPECT_EQ(line("http_request_duration_highr_seconds_count"), "4");
  EXPECT_EQ(line("http_request_duration_highr_seconds_sum"), "3");
  EXPECT_EQ(line(R"(http_request_duration_highr_seconds_bucket{le="0.25"})"), "2");
  EXPECT_EQ(line(R"(http_request_duration_highr_seconds_bucket{le="3.5"})"), "4");
  const std::string seconds = "http_request_duration_seconds";
  EXPECT_EQ(line(seconds + R"(_count{handler="/version",method="GET"})"), "3");
  EXPECT_EQ(line(seconds + R"(_sum{handler="/version",method="GET"})"), "1");
  EXPECT_EQ(line(seconds + R"(_bucket{handler="/version",method="GET",le="0.1"})"), "0");
  EXPECT_EQ(line(seconds + R"(_bucket{handler="/version",method="GET",le="0.5"})"), "3");
}

TEST_F(MetricsTest, ThisProcess) {
  text_ = metrics_.text({});
  EXPECT_GT(std::stod(line("process_resident_memory_bytes")), 1e6);
  EXPECT_GT(std::stod(line("process_open_fds")), 2);
  EXPECT_GE(std::stod(line("process_cpu_seconds_total")), 0);
  EXPECT_GT(std::stod(line("process_start_time_seconds")), 1.7e9);
}

}  // namespace
}  // namespace octet::server
