// Clients that send what they should not: each gets an error or is cut off, and the server lives
// on.
#include <fmt/format.h>

#include <chrono>

#include "src/server/testing.h"

namespace octet::server::tests {
namespace {

class HostileTest : public ServerTest {
 protected:
  void alive() {
    const Reply reply = post("/v1/completions", {{"prompt", "Hi"}, {"max_tokens", 2}});
    EXPECT_EQ(reply.status, 200u) << reply.text;
  }
};

TEST_F(HostileTest, Bodies) {
  start();
  const std::string deep =
      "{\"prompt\":" + std::string(100000, '[') + std::string(100000, ']') + "}";
  for (const std::string& body :
       {std::string("{"), std::string("{\"prompt\": \"x\""), std::string("\"str\""),
        std::string("[]"), std::string("42"), std::string("null"), std::string(), deep,
        std::string("{\"prompt\": \"\\ud800\"}"), std::string("{\"prompt\": \"\xff\xfe\"}"),
        std::string("{\"prompt\": \"x\", \"temperature\": 1e309}")}) {
    const Reply reply = connect().request("POST", "/v1/completions", body);
    EXPECT_EQ(reply.status, 400u) << body.substr(0, 60);
    EXPECT_EQ(reply.json()["error"]["code"], 400);
    EXPECT_LT(reply.text.size(), 2000u);
  }
  for (const char* type : {"text/plain", "application/jsonx", ""}) {
    const Reply reply =
        connect().request("POST", "/v1/completions", R"({"prompt":"x"})", {{"Content-Type", type}});
    EXPECT_EQ(reply.status, 400u) << type;
  }
  EXPECT_EQ(
      connect()
          .request("POST", "/v1/completions", R"({"prompt": "a", "prompt": "b", "max_tokens": 1})")
          .status,
      200u);
  alive();
}

TEST_F(HostileTest, Sizes) {
  options_.max_body_bytes = 100000;
  start();
  Reply reply = connect().request("POST", "/v1/completions", std::string(200000, ' '));
  EXPECT_EQ(reply.status, 413u);
  EXPECT_EQ(reply.json()["error"]["type"], "Payload Too Large");

  Client chunked = connect();
  chunked.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
  chunked.send("30d40\r\n" + std::string(200000, ' ') + "\r\n0\r\n\r\n");
  EXPECT_EQ(chunked.receive().status, 413u);

  Client headers = connect();
  headers.send("GET /health HTTP/1.1\r\nX-Long: " + std::string(60000, 'a') +
               "\r\nX-More: " + std::string(60000, 'a') + "\r\n\r\n");
  EXPECT_EQ(headers.receive().status, 431u);
  alive();
}

// What is announced and does not come takes nobody's place.
TEST_F(HostileTest, BodiesTogetherAreBoundedByWhatHasArrived) {
  options_.max_body_bytes = 100000;
  options_.max_bodies_bytes = 150000;
  start();
  const std::string header =
      "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n";
  std::vector<Client> silent;
  for (int i = 0; i < 20; ++i) {
    silent.push_back(connect());
    silent.back().send(header + "{");
  }
  alive();
  Client first = connect();
  first.send(header + std::string(80000, ' '));
  wait_until([&] {  // once the first one's body is read
    Client second = connect();
    second.send(header + std::string(80000, ' '));
    second.send(std::string(10000, ' '));
    const Reply reply = second.receive();
    if (reply.status == 503) {
      EXPECT_EQ(reply.header("Retry-After"), "1");
    }
    return reply.status == 503;
  });
  first.close();
  wait_until([&] {
    return connect().request("POST", "/v1/completions", std::string(90000, ' ')).status == 400;
  });
  alive();
}

TEST_F(HostileTest, ErrorsThatTheHeaderShowsComeBeforeTheBody) {
  options_.api_keys = {"k"};
  options_.max_body_bytes = 1000;
  start();
  const auto status = [&](const std::string& line, const std::string& lines) {
    Client client = connect();
    client.send(line + " HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n");
    const Reply reply = client.receive();
    EXPECT_EQ(reply.header("Connection"), "close") << line;
    EXPECT_EQ(client.receive_some(), "") << line;
    return reply.status;
  };
  const std::string key = "Authorization: Bearer k\r\n", body = "Content-Length: 500\r\n";
  EXPECT_EQ(status("POST /v1/completions", body), 401u);
  EXPECT_EQ(status("POST /v1/completions", "Transfer-Encoding: chunked\r\n"), 401u);
  EXPECT_EQ(status("POST /v1/completions", "Expect: 100-continue\r\n" + body), 401u);
  EXPECT_EQ(status("POST /v1/nothing", key + body), 404u);
  EXPECT_EQ(status("PUT /v1/completions", key + body), 405u);
  EXPECT_EQ(status("POST /v1/completions", key + "Content-Length: 1001\r\n"), 413u);
}

// A request that follows where one reader sees a body would be served with that body's words.
TEST_F(HostileTest, FramingInDoubtEndsTheConnection) {
  start();
  const std::string inner = "GET /version HTTP/1.1\r\nHost: a\r\n\r\n";
  for (const auto& [lines, expected] : std::vector<std::pair<std::string, unsigned>>{
           {"Transfer-Encoding: identity\r\n", 501},
           {"Transfer-Encoding: gzip, chunked\r\n", 501},
           {"Transfer-Encoding: chunked, identity\r\n", 501},
           {"Transfer-Encoding: xchunked\r\n", 501},
           {"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", 501},
           {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 400},
           {"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", 400},
           {"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", 400},
           {"Content-Length: 5\r\nContent-Length: 6\r\n", 400},
           {"Transfer-Encoding : chunked\r\n", 400},
           {"Host: b\r\n", 400}}) {  // a second one
    Client client = connect();
    client.send("POST /ping HTTP/1.1\r\nHost: a\r\n" + lines + "\r\n" + inner);
    EXPECT_EQ(client.receive().status, expected) << lines;
    EXPECT_EQ(client.receive_some(), "") << lines;
  }
  for (const std::string request :
       {"GET /version HTTP/1.1\r\n\r\n", "GET /version HTTP/1.1\r\nHost: a b/c?@#\r\n\r\n",
        "GET /version HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "POST /ping HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"}) {
    Client client = connect();
    client.send(request + inner);
    EXPECT_EQ(client.receive().status, 400u) << request;
    EXPECT_EQ(client.receive_some(), "") << request;
  }
  alive();
}

// RFC 9110, 6.5.1. A proxy in front looks at the header only.
TEST_F(HostileTest, TrailersAreNoHeaders) {
  options_.enable_request_id_headers = true;
  start();
  const std::string body = R"({"prompt": "Hi", "max_tokens": 1})";
  const auto chunked = [&](const std::string& header, const std::string& trailers) {
    return "POST /v1/completions HTTP/1.1\r\nHost: a\r\n" + header +
           "Transfer-Encoding: chunked\r\n\r\n" +
           fmt::format("{:x}\r\n{}\r\n0\r\n{}\r\n", body.size(), body, trailers);
  };
  const std::string json = "Content-Type: application/json\r\n", id = "X-Request-Id: smug\r\n";
  EXPECT_EQ(
      [&] {
        Client client = connect();
        client.send(chunked("", json + id));
        return client.receive().status;
      }(),
      400u);

  Client client = connect();
  client.send(chunked(json, id + "Connection: close\r\n"));
  Reply reply = client.receive();
  EXPECT_EQ(reply.status, 200u) << reply.text;
  EXPECT_NE(reply.header("X-Request-Id"), "smug");
  EXPECT_NE(reply.header("Connection"), "close");
  client.send(chunked(json + id, "X-Request-Id: other\r\nContent-Type: text/plain\r\n"));
  reply = client.receive();  // on the same connection
  EXPECT_EQ(reply.status, 200u) << reply.text;
  EXPECT_EQ(reply.header("X-Request-Id"), "smug");
  // Many that are small and one that is large, each beyond the 64 KiB of a header.
  std::string many;
  for (int i = 0; i < 9000; ++i) many += "X-Ten: aa\r\n";
  for (const std::string& large : {many, "X-Long: " + std::string(70000, 'a') + "\r\n"}) {
    Client refused = connect();
    refused.send(chunked(json, large));
    EXPECT_EQ(refused.receive().status, 431u);
  }
  alive();
}

TEST_F(HostileTest, EmptyLinesBeforeARequestAreSkipped) {
  options_.keep_alive_seconds = 30;
  start();
  Client client = connect();
  client.send("\r\n\r\n\r");
  client.send("\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n\r\n");
  EXPECT_EQ(client.receive().status, 200u);
  client.send("GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.receive().status, 404u);
  client.send("\n\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.receive().status, 400u);
}

// Bytes that follow a request do not hide that its client went.
TEST_F(HostileTest, AClientThatGoesBehindFurtherBytesIsNoticed) {
  allow_long_requests();
  start();
  const std::string body = R"({"prompt": "Hi", "max_tokens": 4000, "ignore_eos": true, "n": 64})";
  size_t aborted = 0;
  for (const std::string& further :
       {std::string("\r\n"), std::string("GET /version HTTP/1.1\r\nHost: a\r\n\r\n"),
        "GET /version HTTP/1.1\r\nX-Long: " + std::string(300000, 'a')}) {
    Client client = connect();
    client.send(
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        "Content-Length: " +
        std::to_string(body.size()) + "\r\n\r\n" + body + further);
    wait_until([&] { return metric("vllm:num_requests_running") > 0; });
    client.close();
    const auto begin = std::chrono::steady_clock::now();
    wait_until([&] {
      return metric("vllm:num_requests_running") == 0 && metric("vllm:num_requests_waiting") == 0;
    });
    EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
    // Some of the answers may have come to their end, on a fast machine.
    const std::string text = get("/metrics").text, name = "finished_reason=\"abort\"} ";
    const size_t at = text.find(name);
    ASSERT_NE(at, std::string::npos);
    const size_t now = std::stoul(text.substr(at + name.size()));
    EXPECT_GT(now, aborted);
    aborted = now;
  }
  alive();
}

TEST_F(HostileTest, NoHttp) {
  start();
  for (const char* bytes :
       {"\x16\x03\x01\x02\x00 hello\r\n\r\n", "GET\r\n\r\n", "G@T / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nBad Header\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"}) {
    Client client = connect();
    client.send(bytes);
    EXPECT_EQ(client.receive().status, 400u) << bytes;
  }
  Client half = connect();
  half.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Le");
  half.close();
  alive();
}

TEST_F(HostileTest, SlowSendersAreCutOff) {
  options_.read_seconds = 0.3;
  options_.keep_alive_seconds = 0.3;
  start();
  Client silent = connect();
  EXPECT_EQ(silent.receive_some(), "");
  Client slow = connect();
  slow.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{");
  EXPECT_EQ(slow.receive().status, 408u);
  EXPECT_EQ(slow.receive_some(), "");
  Client kept = connect();
  EXPECT_EQ(kept.request("GET", "/health").status, 200u);
  EXPECT_EQ(kept.receive_some(), "");
  alive();
}

TEST_F(HostileTest, ExpectationsAreAnswered) {
  start();
  Client client = connect();
  client.send(
      "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
      "Expect: 100-continue\r\nContent-Length: 15\r\n\r\n");
  EXPECT_EQ(client.receive_some(), "HTTP/1.1 100 Continue\r\n\r\n");
  client.send(R"({"prompt":"Hi"})");
  EXPECT_EQ(client.receive().status, 200u);
}

TEST_F(HostileTest, ConnectionsAreBounded) {
  options_.max_connections = 3;
  options_.read_seconds = 0.5;
  start();
  std::vector<Client> silent;
  for (int i = 0; i < 10; ++i) silent.push_back(connect());
  alive();  // once the silent ones have been cut off
}

TEST_F(HostileTest, WhoIsOneTooManyWaitsForAnotherToGo) {
  options_.max_connections = 2;
  start();
  Client first = connect(), second = connect();
  for (Client* client : {&first, &second})
    EXPECT_EQ(client->request("GET", "/health").status, 200u);
  Client third = connect();
  EXPECT_EQ(third.expect_no_room(first).status, 200u);
}

// Megabytes of events at once: the bound of what is unsent makes the server wait, not cut off.
class LargeStreamTest : public HostileTest {
 protected:
  LargeStreamTest() {
    allow_long_requests();
    options_.max_unsent_bytes = 100000;
  }
  static constexpr size_t kPrompts = 5, kPromptTokens = 1900;
  const ordered_json body_ = {
      {"prompt", std::vector<std::vector<int>>(kPrompts, std::vector<int>(kPromptTokens, 11))},
      {"max_tokens", 1},
      {"echo", true},
      {"logprobs", 20},
      {"ignore_eos", true}};
};

TEST_F(LargeStreamTest, AReaderGetsEverything) {
  start();
  size_t tokens = 0, finished = 0;
  for (const ordered_json& event : stream("/v1/completions", body_))
    for (const ordered_json& choice : event["choices"]) {
      tokens += choice["logprobs"]["tokens"].size();
      finished += choice["finish_reason"] == "length";
    }
  EXPECT_EQ(tokens, kPrompts * (kPromptTokens + 1));
  EXPECT_EQ(finished, kPrompts);
  alive();
}

TEST_F(LargeStreamTest, ASlowReaderGetsEverything) {
  options_.write_seconds = 1;  // less than all of it takes, more than each piece does
  start();
  ordered_json body = body_;
  body["stream"] = true;
  Client slow = connect();
  slow.send_json("/v1/completions", body);
  for (int i = 0; i < 10; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    for (size_t got = 0; got < 200000;) {
      const size_t part = slow.receive_some().size();
      ASSERT_GT(part, 0u) << "cut off";
      got += part;
    }
  }
  std::string tail;
  while (!tail.ends_with("0\r\n\r\n")) {
    const std::string part = slow.receive_some();
    ASSERT_NE(part, "") << "cut off";
    tail = tail.substr(tail.size() - std::min<size_t>(tail.size(), 100)) + part;
  }
  EXPECT_NE(tail.find("data: [DONE]"), std::string::npos);
}

TEST_F(LargeStreamTest, AClientThatReadsNothingIsDropped) {
  options_.write_seconds = 0.5;
  start();
  ordered_json body = body_;
  body["stream"] = true;
  std::vector<Client> silent;
  for (int i = 0; i < 3; ++i) {
    silent.push_back(connect());
    const int small = 2048;
    ::setsockopt(silent.back().socket().native_handle(), SOL_SOCKET, SO_RCVBUF, &small,
                 sizeof small);
    silent.back().send_json("/v1/completions", body);
  }
  wait_until([&] { return get("/load").json()["server_load"] == 3; });
  wait_until([&] { return get("/load").json()["server_load"] == 0; });
  // The engine frees the pages in its next round.
  wait_until([&] { return metric("vllm:kv_cache_usage_perc") == 0; });
  alive();
}

TEST_F(HostileTest, ChunkedBodiesCountByTheirSizeOnceRead) {
  allow_long_requests();
  start();
  const std::string body =
      R"({"prompt": "Hi", "max_tokens": 1000, "ignore_eos": true, "stream": true})";
  std::vector<Client> streams;
  for (int i = 0; i < 20; ++i) {  // more than the budget holds of the largest bodies
    streams.push_back(connect());
    Client& client = streams.back();
    client.send(
        "POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        "Transfer-Encoding: chunked\r\n\r\n");
    client.send(fmt::format("{:x}\r\n{}\r\n0\r\n\r\n", body.size(), body));
    EXPECT_TRUE(client.receive_some().starts_with("HTTP/1.1 200 ")) << i;
  }
  EXPECT_EQ(get("/load").json()["server_load"], 20);
  streams.clear();
  wait_until([&] { return get("/load").json()["server_load"] == 0; });
  alive();
}

TEST_F(HostileTest, LogprobsOfARequestAreBounded) {
  allow_long_requests();
  start();
  const ordered_json error = bad(
      "/v1/completions",
      {{"prompt", std::vector<std::string>(100, "Hi")}, {"max_tokens", 2000}, {"logprobs", 20}});
  EXPECT_EQ(error["param"], "logprobs");
  const std::string message = error["message"];
  EXPECT_NE(message.find("3000000"), std::string::npos) << message;
  EXPECT_NE(message.find("4200000"), std::string::npos) << message;
}

// It comes with the model. What it began goes on by itself, and the end does not wait for it.
TEST_F(HostileTest, AChatTemplateThatLastsHoldsUpNobody) {
  template_ = text::ChatTemplate::from_source(
      "{% set x = 'a' * 4000000 %}{% set y = x ~ '' %}{% for i in range(90000) %}"
      "{% if x == y and x[-1] == 'a' %}{% endif %}{% endfor %}",
      {}, {.time = std::chrono::milliseconds(200)});
  start();
  const ordered_json message = {{"role", "user"}, {"content", "Hi"}};
  for (const auto& [why, status] :
       {std::pair("limit of 0.2 s", 400u), {"limit of 0.2 s", 400u}, {"2 chats still run", 503u}}) {
    const Reply reply =
        post("/v1/chat/completions", {{"messages", ordered_json::array({message})}});
    EXPECT_EQ(reply.status, status);
    EXPECT_NE(reply.text.find(why), std::string::npos) << reply.text;
    alive();
  }
  const auto begin = std::chrono::steady_clock::now();
  stop();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(8));
}

TEST_F(HostileTest, LongPromptsAreRefusedUntokenized) {
  start();
  const Reply reply = post("/v1/completions", {{"prompt", std::string(10 << 20, 'x')}});
  EXPECT_EQ(reply.status, 400u);
  EXPECT_NE(reply.text.find("contains at least"), std::string::npos) << reply.text;
}

}  // namespace
}  // namespace octet::server::tests
