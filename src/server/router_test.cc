// Which handler answers what, and what comes before any handler.
#include "src/server/router.h"

#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>

#include <sstream>

#include "src/server/api/generation_testing.h"

namespace octet::server::tests {
namespace {

using Headers = RecordedExchange::Headers;

const Headers kJson = {{"Content-Type", "application/json"}};

class RouterTest : public ApiTest {
 protected:
  void start_router() {
    start_context();
    router_ = std::make_unique<Router>(*context_);
  }
  std::shared_ptr<RecordedExchange> ask(std::string_view method, std::string_view target,
                                        std::string body = "", const Headers& headers = kJson) {
    auto exchange = std::make_shared<RecordedExchange>(method, target, std::move(body), headers);
    router_->handle(exchange);
    wait_for_answer(*exchange);
    return exchange;
  }
  unsigned status(std::string_view method, std::string_view target, std::string body = "",
                  const Headers& headers = kJson) {
    return ask(method, target, std::move(body), headers)->response()->status;
  }

  std::unique_ptr<Router> router_;
};

struct WrongTarget {
  const char* method;
  const char* target;
  unsigned status;
};

TEST_F(RouterTest, PathsAndMethods) {
  start_router();
  for (const auto& [method, target, expected] : std::vector<WrongTarget>{
           {"GET", "/health", 200},
           {"HEAD", "/health", 200},
           {"POST", "/health", 405},
           {"GET", "/ping", 200},
           {"POST", "/ping", 200},
           {"GET", "/version", 200},
           {"DELETE", "/version", 405},
           {"MADEUP", "/version", 405},
           {"GET", "/load", 200},
           {"GET", "/metrics", 200},
           {"GET", "/v1/models", 200},
           {"POST", "/v1/models", 405},
           {"GET", "/v1/models/alias", 200},
           {"GET", "/v1/models/%61lias", 200},
           {"GET", "/v1/models/%2Fmodels%2Ftiny", 200},
           {"GET", "/v1/models/%zz", 404},
           {"GET", "/v1/models/other", 404},
           {"GET", "/v1/models/", 307},
           {"GET", "/v1/models/alias/", 404},
           {"POST", "/v1/completions//", 307},
           {"GET", "/metrics/", 200},
           {"POST", "/metrics/", 405},
           {"GET", "//", 404},
           {"GET", "//elsewhere/version/", 404},
           {"GET", "/v1/completions", 405},
           {"GET", "/v1/chat/completions", 405},
           {"GET", "/invocations", 405},
           {"GET", "/tokenize", 405},
           {"GET", "/detokenize", 405},
           {"GET", "/", 404},
           {"GET", "", 404},
           {"GET", "/healthy", 404},
           {"GET", "/health/", 307},
           {"POST", "/v1/embeddings", 404},
           {"GET", "/version?verbose=1", 200},
           {"GET", "/version#part", 200},
           {"GET", "http://elsewhere/version", 200},
           {"GET", "http://elsewhere", 404},
           {"GET", "/x://y/version", 404},
       })
    EXPECT_EQ(status(method, target), expected) << method << " " << target;
}

TEST_F(RouterTest, Errors) {
  start_router();
  const auto missing = ask("GET", "/nothing");
  EXPECT_EQ(missing->response()->body,
            R"({"error":{"message":"Not Found","type":"Not Found","param":null,"code":404}})");
  const auto wrong = ask("PUT", "/version");
  EXPECT_EQ(wrong->response()->body, R"({"error":{"message":"Method Not Allowed","type":)"
                                     R"("Method Not Allowed","param":null,"code":405}})");
  EXPECT_EQ(wrong->header("Allow"), "OPTIONS, GET, HEAD");
  EXPECT_EQ(ask("GET", "/v1/completions")->header("Allow"), "OPTIONS, POST");
}

TEST_F(RouterTest, SlashesAtTheEndRedirect) {
  options_.root_path = "/llm";
  start_router();
  for (const auto& [target, location] :
       std::vector<std::pair<const char*, const char*>>{{"/version/", "/version"},
                                                        {"/version//?a=/b/", "/version?a=/b/"},
                                                        {"/llm/v1/models/", "/llm/v1/models"},
                                                        {"http://elsewhere/version/", "/version"}})
    EXPECT_EQ(ask("GET", target)->header("Location"), location) << target;
}

TEST_F(RouterTest, WhatTheBodyCannotChangeIsKnownBefore) {
  options_.api_keys = {"k"};
  start_router();
  const auto refuses = [&](const char* method, const char* target, const char* authorization) {
    return router_->refuses(
        RecordedExchange(method, target, "", {{"Authorization", authorization}}).request());
  };
  EXPECT_FALSE(refuses("POST", "/v1/completions", "Bearer k"));
  EXPECT_TRUE(refuses("POST", "/v1/completions", "Bearer x"));
  EXPECT_TRUE(refuses("PUT", "/v1/completions", "Bearer k"));
  EXPECT_TRUE(refuses("POST", "/nothing", "Bearer k"));
  EXPECT_TRUE(refuses("POST", "/tokenize/", "Bearer k"));
  EXPECT_FALSE(refuses("POST", "/tokenize", ""));
  EXPECT_FALSE(refuses("OPTIONS", "/v1/completions", ""));
}

TEST_F(RouterTest, AllPathsCanBeGuarded) {
  options_.api_keys = {"k"};
  options_.guard_all_paths = true;
  start_router();
  for (const char* target : {"/metrics", "/version", "/load", "/tokenize", "/detokenize",
                             "/nothing", "/", "/v1/models", "/metrics/", "/healthy", "//health"}) {
    EXPECT_EQ(status("GET", target), 401u) << target;
    EXPECT_NE(status("GET", target, "", {{"Authorization", "Bearer k"}}), 401u) << target;
  }
  for (const char* target : {"/health", "/ping", "/health?x=1"})
    EXPECT_EQ(status("GET", target), 200u) << target;
}

TEST_F(RouterTest, WorkOfAClientThatWentIsNotBegun) {
  start_router();
  for (const char* target : {"/v1/completions", "/tokenize"}) {
    auto exchange = std::make_shared<RecordedExchange>(
        "POST", target, R"({"prompt": [72, 105], "max_tokens": 100, "ignore_eos": true})", kJson);
    exchange->go();
    router_->handle(exchange);
    // The pool is past it.
    EXPECT_EQ(status("POST", target, R"({"prompt": "Hi", "add_special_tokens": false, "n": 0})"),
              std::string_view(target) == "/tokenize" ? 200u : 400u);
    EXPECT_FALSE(exchange->response());
  }
  EXPECT_EQ(engine_->stats().generation_tokens, 0u);
  EXPECT_EQ(context_->load.load(), 0u);
}

// What a log's reader would take for a field, a line or a secret of the client does not get there.
TEST_F(RouterTest, TheAccessLogIsOneCleanLine) {
  options_.access_log = true;
  start_router();
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>(
      "test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  ask("GET", "/version?key=secret#part");
  ask("GET", "/a\"b\\c\x1b[31m\xff/\x7f");
  spdlog::set_default_logger(before);
  EXPECT_NE(log.str().find("127.0.0.1:40000 - \"GET /version HTTP/1.1\" 200\n"), std::string::npos)
      << log.str();
  EXPECT_NE(log.str().find(R"("GET /a\x22b\x5cc\x1b[31m\xff/\x7f HTTP/1.1" 404)"),
            std::string::npos)
      << log.str();
  EXPECT_EQ(log.str().find("secret"), std::string::npos);
}

TEST_F(RouterTest, HandlersAnswer) {
  start_router();
  EXPECT_EQ(ask("GET", "/version")->json(), ordered_json({{"version", "1.2.3"}}));
  EXPECT_EQ(ask("GET", "/load")->json(), ordered_json({{"server_load", 0}}));
  EXPECT_EQ(ask("GET", "/v1/models/alias")->json()["id"], "alias");
  EXPECT_EQ(ask("GET", "/metrics")->response()->type, "text/plain; version=0.0.4; charset=utf-8");
  const auto tokens = ask("POST", "/tokenize", R"({"prompt": "Hi", "add_special_tokens": false})");
  EXPECT_EQ(tokens->json()["count"], 2);
  const auto text = ask("POST", "/v1/completions", R"({"prompt": [72, 105], "max_tokens": 3})",
                        {{"Content-Type", "application/json"}, {"X-Request-Id", "mine"}});
  EXPECT_EQ(text->response()->status, 200u);
  EXPECT_EQ(text->json()["id"], "cmpl-mine");
  EXPECT_EQ(
      ask("POST", "/invocations", R"({"prompt": [72, 105], "max_tokens": 1})")->json()["object"],
      "text_completion");
  // A conversation, by its member; this model has no template.
  EXPECT_EQ(ask("POST", "/invocations", R"({"messages": [{"role": "user", "content": "Hi"}]})")
                ->json()["error"]["param"],
            "messages");
}

TEST_F(RouterTest, BodiesAreJsonAndSaySo) {
  start_router();
  const std::string body =
      R"({"prompt": "Hi", "max_tokens": 1, "add_special_tokens": false})";  // this model has no
                                                                            // <|bos|>
  for (const char* path : {"/v1/completions", "/tokenize"}) {
    EXPECT_EQ(status("POST", path, body, {{"Content-Type", "text/plain"}}), 400u);
    EXPECT_EQ(status("POST", path, body, {}), 400u);
    EXPECT_EQ(status("POST", path, body, {{"Content-Type", "Application/JSON; charset=utf-8"}}),
              200u);
    EXPECT_EQ(status("POST", path, "{"), 400u);
  }
}

TEST_F(RouterTest, Keys) {
  options_.api_keys = {"first", "second"};
  start_router();
  const auto with = [&](const char* method, const char* target, const std::string& authorization) {
    return status(method, target, "", {{"Authorization", authorization}});
  };
  for (const char* target : {"/v1/models", "/v1/models/tiny", "/v1/models?x=1", "/v1/nothing",
                             "/v1", "http://elsewhere/v1/models"}) {
    EXPECT_EQ(status("GET", target), 401u) << target;
    EXPECT_EQ(with("GET", target, "Bearer third"), 401u) << target;
    EXPECT_EQ(with("GET", target, "first"), 401u) << target;
    EXPECT_NE(with("GET", target, "bearer second"), 401u) << target;
  }
  // Without a key it does not show which methods there are either.
  for (const char* target : {"/v1/completions", "/v1/chat/completions", "/invocations"}) {
    EXPECT_EQ(status("POST", target), 401u) << target;
    EXPECT_EQ(status("GET", target), 401u) << target;
    EXPECT_EQ(with("GET", target, "Bearer first"), 405u) << target;
  }
  for (const char* target : {"/health", "/ping", "/version", "/load", "/metrics"})
    EXPECT_EQ(status("GET", target), 200u) << target;
  EXPECT_EQ(status("POST", "/tokenize", R"({"prompt": "Hi"})"), 200u);
  EXPECT_EQ(status("GET", "/nothing"), 404u);
  EXPECT_EQ(status("OPTIONS", "/v1/models"), 200u);
  const auto refused = ask("GET", "/v1/models");
  EXPECT_EQ(refused->response()->body, R"({"error":"Unauthorized"})");
  EXPECT_EQ(refused->header("WWW-Authenticate"), "Bearer");
}

TEST_F(RouterTest, RootPath) {
  options_.root_path = "/llm/";
  options_.api_keys = {"k"};
  start_router();
  for (const auto& [target, expected] :
       std::vector<std::pair<const char*, unsigned>>{{"/llm/version", 200},
                                                     {"/version", 200},
                                                     {"/llmversion", 404},
                                                     {"/llm", 404},
                                                     {"/llm/v1/models", 401},
                                                     {"/llm/llm/version", 404}})
    EXPECT_EQ(status("GET", target), expected) << target;
}

TEST_F(RouterTest, OptionsNameTheMethods) {
  start_router();
  EXPECT_EQ(ask("OPTIONS", "/ping")->header("Allow"), "OPTIONS, GET, HEAD, POST");
  EXPECT_EQ(ask("OPTIONS", "/nothing")->header("Allow"), "OPTIONS");
}

TEST_F(RouterTest, OriginsThatAreAllowed) {
  options_.cors.origins = {"http://a"};
  options_.cors.credentials = true;
  start_router();
  const auto allowed = ask("GET", "/version", "", {{"Origin", "http://a"}});
  EXPECT_EQ(allowed->header("Access-Control-Allow-Origin"), "http://a");
  EXPECT_EQ(allowed->header("Vary"), "Origin");
  EXPECT_EQ(allowed->header("Access-Control-Allow-Credentials"), "true");
  EXPECT_EQ(
      ask("GET", "/version", "", {{"Origin", "http://b"}})->header("Access-Control-Allow-Origin"),
      "");
}

TEST_F(RouterTest, OnceClosedItGeneratesNoMore) {
  start_router();
  router_->close();
  const auto refused = ask("POST", "/v1/completions", R"({"prompt": "Hi"})");
  EXPECT_EQ(refused->response()->status, 503u);
  EXPECT_EQ(refused->json()["error"]["message"], "The server is shutting down.");
  EXPECT_EQ(refused->header("Retry-After"), "1");
  EXPECT_EQ(status("GET", "/health"), 503u);
  EXPECT_EQ(status("GET", "/version"), 200u);
}

TEST_F(RouterTest, WhoseErrorHasNoMemoryIsCutOff) {
  start_router();
  for (const auto& [target, body] : {std::pair("/nowhere", "{}"), {"/tokenize", "{"}}) {
    const auto exchange = std::make_shared<RecordedExchange>("POST", target, body, kJson);
    exchange->run_out_of_memory();
    router_->handle(exchange);
    run_until([&] { return exchange->gone(); });
  }
  EXPECT_EQ(status("GET", "/health"), 200);
}

TEST_F(RouterTest, FiguresHaveRoutesNotPaths) {
  start_router();
  for (const char* target : {"/v1/models/tiny", "/v1/models/alias", "/one", "/two"})
    ask("GET", target);
  ask("MADEUP", "/tokenize");
  ask("DELETE", "/tokenize");
  const std::string body = R"({"prompt": "Hi"})";
  const auto tokens = ask("POST", "/tokenize", body,
                          {{"Content-Type", "application/json"}, {"Content-Length", "16"}});
  for (const char* target : {"/metrics", "/health", "/load", "/ping", "/version", "/version/"})
    ask("GET", target);
  const std::string text = metrics_->text({});
  for (const char* line :
       {"http_requests_total{handler=\"/v1/models/\",method=\"GET\",status=\"2xx\"} 2\n",
        "http_requests_total{handler=\"none\",method=\"GET\",status=\"4xx\"} 2\n",
        "http_requests_total{handler=\"/tokenize\",method=\"other\",status=\"4xx\"} 1\n",
        "http_requests_total{handler=\"/tokenize\",method=\"DELETE\",status=\"4xx\"} 1\n",
        "http_request_size_bytes_sum{handler=\"/tokenize\"} 16\n",
        "http_request_duration_highr_seconds_count 7\n"})
    EXPECT_NE(text.find(line), std::string::npos) << line;
  const std::string sizes = "http_response_size_bytes_count{handler=\"/tokenize\"} 3\n";
  EXPECT_NE(text.find(sizes), std::string::npos) << text;
  for (const char* made_up : {"/one", "tiny\",method", "MADEUP", "handler=\"/version",
                              "handler=\"/metrics", "handler=\"/health"})
    EXPECT_EQ(text.find(made_up), std::string::npos) << made_up;
}

}  // namespace
}  // namespace octet::server::tests
