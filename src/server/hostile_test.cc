// Clients that send what they should not: each gets an error or is cut off, and the server lives
// on.
#include "src/server/testing.h"

namespace octet::server::testing {
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

TEST_F(HostileTest, BodiesTogetherAreBounded) {
  options_.max_body_bytes = 100000;
  options_.max_bodies_bytes = 150000;
  start();
  Client first = connect();
  first.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n{");
  wait_until([&] {  // once the first one's header is read
    Client second = connect();
    second.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n{");
    const Reply reply = second.receive();
    EXPECT_EQ(reply.header("Retry-After"), "1");
    return reply.status == 503;
  });
  first.close();
  wait_until([&] {
    return connect().request("POST", "/v1/completions", std::string(90000, ' ')).status == 400;
  });
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

TEST_F(HostileTest, LongPromptsAreRefusedUntokenized) {
  start();
  for (const char* path : {"/v1/completions", "/tokenize"}) {
    const Reply reply = post(path, {{"prompt", std::string(10 << 20, 'x')}});
    EXPECT_EQ(reply.status, 400u);
    EXPECT_NE(reply.text.find("contains at least"), std::string::npos) << reply.text;
  }
}

}  // namespace
}  // namespace octet::server::testing
