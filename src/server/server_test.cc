// The server around the endpoints: keys, headers, models, figures, disconnects, its end.
#include "src/server/server.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <future>
#include <thread>

#include "src/base/error.h"
#include "src/server/testing.h"

namespace octet::server::tests {
namespace {

const ordered_json kLong = {
    {"prompt", "Hi"}, {"max_tokens", 4000}, {"ignore_eos", true}, {"stream", true}};

TEST_F(ServerTest, SmallEndpoints) {
  start();
  EXPECT_EQ(get("/health").status, 200u);
  EXPECT_EQ(get("/health").text, "");
  EXPECT_EQ(get("/ping").status, 200u);
  EXPECT_EQ(connect().request("POST", "/ping").status, 200u);
  EXPECT_EQ(get("/version").json()["version"], "1.2.3");
  EXPECT_EQ(get("/load").json()["server_load"], 0);
  EXPECT_EQ(connect().request("HEAD", "/version").status, 200u);
}

TEST_F(ServerTest, Models) {
  start();
  const ordered_json list = get("/v1/models").json();
  ASSERT_EQ(list["data"].size(), 2u);
  EXPECT_EQ(list["data"][0]["id"], "tiny");
  EXPECT_EQ(list["data"][1]["id"], "alias");
  EXPECT_EQ(list["data"][0]["max_model_len"], kMaxModelLen);
  EXPECT_EQ(list["data"][0]["root"], options_.model_path);
  EXPECT_EQ(get("/v1/models/alias").json()["id"], "alias");
  EXPECT_EQ(get("/v1/models/nope").status, 404u);
  EXPECT_EQ(complete({{"prompt", "Hi"}, {"model", options_.model_path}})["model"], "tiny");
}

TEST_F(ServerTest, UnknownPathsAndMethods) {
  start();
  const ordered_json e = get("/nothing").json()["error"];
  EXPECT_EQ(e["code"], 404);
  EXPECT_EQ(e["type"], "Not Found");
  EXPECT_EQ(get("/v1/completions").status, 405u);
  EXPECT_EQ(connect().request("DELETE", "/v1/models").status, 405u);
}

TEST_F(ServerTest, Keys) {
  options_.api_keys = {"first", "second"};
  start();
  const auto status = [&](const std::string& path, const std::string& authorization) {
    std::vector<std::pair<std::string, std::string>> headers;
    if (!authorization.empty()) headers.emplace_back("Authorization", authorization);
    return connect().request("GET", path, "", headers).status;
  };
  EXPECT_EQ(status("/v1/models", ""), 401u);
  EXPECT_EQ(get("/v1/models").json(), ordered_json({{"error", "Unauthorized"}}));
  EXPECT_EQ(status("/v1/models", "Bearer wrong"), 401u);
  EXPECT_EQ(status("/v1/models", "first"), 401u);
  EXPECT_EQ(status("/v1/models", "bearer first"), 200u);
  EXPECT_EQ(status("/v1/models", "Bearer second"), 200u);
  EXPECT_EQ(status("/v1/models/", "Bearer first"), 307u);
  for (const char* path : {"/v1/models/", "/v1/models/tiny", "/v1/models?x=1", "/v1/nothing",
                           "/v1%2fmodels", "http://elsewhere/v1/models"})
    EXPECT_EQ(status(path, ""), 401u) << path;
  EXPECT_NE(status("//v1/models", ""), 200u);
  EXPECT_EQ(status("/health", ""), 200u);
  EXPECT_EQ(connect().request("OPTIONS", "/v1/models").status, 200u);
}

TEST_F(ServerTest, WhateverGeneratesNeedsAKey) {
  options_.api_keys = {"k"};
  start();
  for (const char* path : {"/invocations", "/v1/completions", "/v1/chat/completions"})
    EXPECT_EQ(post(path, {{"prompt", "Hi"}}).status, 401u) << path;
  EXPECT_EQ(connect()
                .request("POST", "/invocations", R"({"prompt": "Hi", "max_tokens": 1})",
                         {{"Content-Type", "application/json"}, {"Authorization", "Bearer k"}})
                .status,
            200u);
  for (const char* path : {"/metrics", "/health"}) EXPECT_EQ(get(path).status, 200u) << path;
}

TEST_F(ServerTest, CorsAndRequestIds) {
  options_.enable_request_id_headers = true;
  start();
  const Reply flight = connect().request("OPTIONS", "/v1/completions", "",
                                         {{"Origin", "http://a"},
                                          {"Access-Control-Request-Method", "POST"},
                                          {"Access-Control-Request-Headers", "x-a, x-b"}});
  EXPECT_EQ(flight.status, 200u);
  EXPECT_EQ(flight.header("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(flight.header("Access-Control-Allow-Headers"), "x-a, x-b");
  const Reply reply = connect().request("POST", "/v1/completions", R"({"prompt":"Hi"})",
                                        {{"Content-Type", "application/json; charset=utf-8"},
                                         {"Origin", "http://a"},
                                         {"X-Request-Id", "mine"}});
  EXPECT_EQ(reply.header("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(reply.header("X-Request-Id"), "mine");
  EXPECT_EQ(reply.json()["id"], "cmpl-mine");
  EXPECT_EQ(get("/health").header("X-Request-Id").size(), 32u);
}

TEST_F(ServerTest, RootPath) {
  options_.root_path = "/llm";
  start();
  EXPECT_EQ(get("/llm/v1/models").status, 200u);
  EXPECT_EQ(get("/v1/models").status, 200u);
  EXPECT_EQ(get("/llmx/v1/models").status, 404u);
  EXPECT_EQ(get("/llm").status, 404u);
}

TEST_F(ServerTest, FiguresNameTheTypeOfTheCache) {
  using kernels::FloatType;
  for (const auto& [type, name] : {std::pair{FloatType::kF16, "float16"},
                                   {FloatType::kBF16, "bfloat16"},
                                   {FloatType::kI8, "int8"},
                                   {FloatType::kF32, "float32"}}) {
    engine_options_.kv_type = type;
    const std::string text = Metrics("tiny", engine_options_).text({});
    EXPECT_NE(text.find("cache_dtype=\"" + std::string(name) + "\""), std::string::npos) << text;
  }
}

TEST_F(ServerTest, KeepAliveAndPipelining) {
  start();
  Client client = connect();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.request("GET", "/version").status, 200u);
  client.send("GET /version HTTP/1.1\r\nHost: a\r\n\r\nGET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200u);
  EXPECT_EQ(client.receive().status, 404u);
  client.send("GET /version HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200u);
  EXPECT_EQ(client.receive_some(), "");  // closed
}

TEST_F(ServerTest, Figures) {
  start();
  for (const char* name :
       {"vllm:num_requests_running", "vllm:num_requests_waiting", "vllm:kv_cache_usage_perc",
        "vllm:gpu_cache_usage_perc", "vllm:prompt_tokens_total", "vllm:generation_tokens_total",
        "vllm:num_preemptions_total", "vllm:time_to_first_token_seconds_count",
        "vllm:inter_token_latency_seconds_count", "vllm:time_per_output_token_seconds_count",
        "vllm:e2e_request_latency_seconds_count", "vllm:request_queue_time_seconds_count",
        "vllm:request_prompt_tokens_count", "vllm:request_params_n_count",
        "vllm:iteration_tokens_total_sum", "vllm:request_success_total"})
    EXPECT_EQ(metric(name), 0) << name;
  EXPECT_EQ(metric("vllm:cache_config_info"), 1);
  EXPECT_GT(metric("process_resident_memory_bytes"), 0);
  size_t prompt = 0;
  for (int i = 0; i < 10; ++i)
    prompt += complete({{"prompt", "Hello there"},
                        {"max_tokens", 10},
                        {"ignore_eos", true}})["usage"]["prompt_tokens"]
                  .get<size_t>();
  wait_until([&] { return metric("vllm:num_requests_running") == 0; });
  EXPECT_EQ(metric("vllm:time_to_first_token_seconds_count"), 10);
  EXPECT_EQ(metric("vllm:inter_token_latency_seconds_count"), 90);
  EXPECT_EQ(metric("vllm:e2e_request_latency_seconds_count"), 10);
  EXPECT_EQ(metric("vllm:prompt_tokens_total"), prompt);
  EXPECT_EQ(metric("vllm:generation_tokens_total"), 100);
  EXPECT_EQ(metric("vllm:iteration_tokens_total_sum"), prompt + 100);
  EXPECT_NE(get("/metrics")
                .text.find("vllm:request_success_total{engine=\"0\",model_name=\"tiny\",finished_"
                           "reason=\"length\"} 10"),
            std::string::npos);
  // Per request: n = 4 counts once, three prompts three times.
  complete({{"prompt", "Hi"}, {"max_tokens", 7}, {"ignore_eos", true}, {"n", 4}});
  complete({{"prompt", {"Hi", "you", "there"}}, {"max_tokens", 3}, {"ignore_eos", true}});
  EXPECT_EQ(metric("vllm:request_params_n_count"), 10 + 1 + 3);
  EXPECT_EQ(metric("vllm:request_params_n_sum"), 10 + 4 + 3);
  EXPECT_EQ(metric("vllm:request_max_num_generation_tokens_count"), 10 + 1 + 3);
  EXPECT_EQ(metric("vllm:request_max_num_generation_tokens_sum"), 100 + 7 + 3 * 3);
  EXPECT_EQ(metric("vllm:request_generation_tokens_count"), 10 + 4 + 3);
  EXPECT_NE(
      get("/metrics")
          .text.find(
              "http_requests_total{handler=\"/v1/completions\",method=\"POST\",status=\"2xx\"} 12"),
      std::string::npos);
}

TEST_F(ServerTest, ADroppedClientsRequestEnds) {
  allow_long_requests();
  start();
  ordered_json whole = kLong;
  whole["stream"] = false;
  std::vector<Client> clients;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(connect());
    clients.back().send_json("/v1/completions", i % 2 == 0 ? kLong : whole);
  }
  wait_until([&] { return metric("vllm:num_requests_running") == 16; });
  EXPECT_GT(get("/load").json()["server_load"], 0);
  for (Client& c : clients) c.close();
  wait_until([&] {
    return metric("vllm:num_requests_running") + metric("vllm:num_requests_waiting") == 0;
  });
  EXPECT_EQ(metric("vllm:kv_cache_usage_perc"), 0);
  EXPECT_EQ(get("/load").json()["server_load"], 0);
  EXPECT_NE(get("/metrics").text.find("finished_reason=\"abort\""), std::string::npos);
  complete({{"prompt", "Hi"}});
}

TEST_F(ServerTest, ManyAtOnceEqualEachAlone) {
  start();
  const auto body = [](int i) -> ordered_json {
    return {{"prompt", "Item " + std::to_string(i)}, {"max_tokens", 5 + i % 7}, {"temperature", 0}};
  };
  std::vector<std::string> alone, together(32);
  for (int i = 0; i < 32; ++i) alone.push_back(complete(body(i))["choices"][0]["text"]);
  std::vector<std::thread> threads;
  for (int i = 0; i < 32; ++i)
    threads.emplace_back(
        [&, i] { together[static_cast<size_t>(i)] = complete(body(i))["choices"][0]["text"]; });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(together, alone);
}

TEST_F(ServerTest, AFullQueueSaysSo) {
  allow_long_requests();
  engine_options_.max_sequences = 1;
  engine_options_.max_queue = 1;
  start();
  std::vector<Client> clients;
  size_t refused = 0;
  for (int i = 0; i < 6; ++i) {
    clients.push_back(connect());
    clients.back().send_json("/v1/completions", kLong);
  }
  for (Client& c : clients) {
    const Reply reply = c.receive();
    if (reply.status == 200) continue;
    ++refused;
    EXPECT_EQ(reply.status, 503u);
    EXPECT_EQ(reply.header("Retry-After"), "1");
    EXPECT_EQ(reply.json()["error"]["message"], "Request queue full.");
  }
  EXPECT_GT(refused, 0u);
  EXPECT_LT(refused, 6u);
}

TEST_F(ServerTest, AClientThatTakesNothingIsGivenUp) {
  allow_long_requests();
  options_.max_unsent_bytes = 100000;
  options_.write_seconds = 0.3;
  start();
  Client slow = connect();
  const int small = 2048;
  ::setsockopt(slow.socket().native_handle(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  ordered_json body = kLong;
  body["n"] = 16;
  body["max_tokens"] = 150;
  body["logprobs"] = 20;  // some megabytes in all, more than the system's buffers hold
  body["prompt"] = std::vector<std::string>(8, "Hi");
  slow.send_json("/v1/completions", body);
  wait_until([&] { return metric("vllm:generation_tokens_total") > 0; });
  wait_until([&] {
    return metric("vllm:num_requests_running") + metric("vllm:num_requests_waiting") == 0;
  });
  EXPECT_LT(metric("vllm:generation_tokens_total"), 16 * 8 * 150);
}

TEST_F(ServerTest, StoppingLetsRequestsFinish) {
  allow_long_requests();
  start();
  Client streaming = connect(), idle = connect();
  ordered_json body = kLong;
  body["max_tokens"] = 1500;  // within the grace of a minute in a sanitized build, too
  streaming.send_json("/v1/completions", body);
  wait_until([&] { return metric("vllm:num_requests_running") > 0; });
  const uint16_t port = server_->port();
  server_->stop();
  const Reply reply = streaming.receive();
  EXPECT_EQ(reply.events().back()["choices"][0]["finish_reason"], "length");
  EXPECT_EQ(streaming.receive_some(), "");
  EXPECT_EQ(idle.receive_some(), "");
  stop();
  options_.port = port;  // free at once
  start();
  EXPECT_EQ(get("/health").status, 200u);
}

TEST_F(ServerTest, StoppingEndsWhatTakesTooLong) {
  allow_long_requests();
  options_.shutdown_grace_seconds = 0.05;
  start();
  std::vector<Client> clients;
  ordered_json body = kLong;
  body["n"] = 16;
  for (int i = 0; i < 8; ++i) {
    clients.push_back(connect());
    clients.back().send_json("/v1/completions", body);
  }
  wait_until([&] { return metric("vllm:num_requests_running") > 0; });
  stop();
  const EngineStats stats = engine_->stats();
  EXPECT_EQ(stats.running + stats.waiting, 0u);
  EXPECT_EQ(stats.kv_usage, 0);
}

// Its client learns why, in the stream's own form.
TEST_F(ServerTest, AStreamThatIsCutOffEndsWithAnError) {
  allow_long_requests();
  options_.shutdown_grace_seconds = 0.05;
  start();
  Client client = connect();
  ordered_json body = kLong;
  body["stream"] = true;
  client.send_json("/v1/completions", body);
  wait_until([&] { return metric("vllm:num_requests_running") > 0; });
  server_->stop();
  const Reply reply = client.receive();
  ASSERT_FALSE(reply.events().empty());
  EXPECT_EQ(reply.events().back()["error"]["message"], "the server stops");
  stop();
}

// The pool is waited for when the grace time is over and nothing else runs any more.
TEST_F(ServerTest, ASecondSignalIsHeardUntilTheVeryEnd) {
  std::promise<void> ended;
  options_.handle_signals = true;
  options_.end_at_once = [&] { ended.set_value(); };
  options_.shutdown_grace_seconds = 0.05;
  start();
  EXPECT_EQ(get("/health").status, 200u);  // so signals are taken
  Client slow = connect();
  slow.send_json("/tokenize", {{"prompt", std::string(size_t{4} << 20, '7')}});
  ::kill(::getpid(), SIGTERM);
  while (!slow.receive_some().empty()) continue;  // until the server ends it
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  ::kill(::getpid(), SIGTERM);
  EXPECT_EQ(ended.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  stop();
}

TEST_F(ServerTest, ATakenPortIsNamed) {
  start();
  ServerOptions second = options_;
  second.port = server_->port();
  try {
    Listener other(second);
    FAIL() << "two listeners on one port";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("127.0.0.1:" + std::to_string(second.port)),
              std::string::npos);
    EXPECT_NE(std::string(e.what()).find("--port"), std::string::npos);
  }
}

}  // namespace
}  // namespace octet::server::tests
