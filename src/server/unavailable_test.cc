// 503 to everybody until there is an engine; the server that comes takes over the same socket.
#include "src/server/unavailable.h"

#include "src/server/testing.h"

namespace octet::server::tests {
namespace {

constexpr const char* kMessage = "The ranks start again.";

class UnavailableTest : public ::testing::Test {
 protected:
  UnavailableTest() {
    options_.host = "127.0.0.1";
    options_.port = 0;
    options_.access_log = false;
    listener_ = std::make_unique<Listener>(options_);
    asio::io_context io;
    port_ = listener_->lend(io).acceptor.local_endpoint().port();
    unavailable_ = std::make_unique<Unavailable>(*listener_, options_, kMessage);
  }
  Client connect() const { return Client(port_); }

  ServerOptions options_;
  uint16_t port_ = 0;
  std::unique_ptr<Listener> listener_;
  std::unique_ptr<Unavailable> unavailable_;
};

TEST_F(UnavailableTest, EveryPathIs503WithTheReason) {
  Client client = connect();
  for (int i = 0; i < 2; ++i) {  // on one connection, which stays
    EXPECT_EQ(client.request("GET", "/health").status, 503u);
    const Reply reply = client.request("POST", "/v1/completions", R"({"prompt": "Hi"})");
    EXPECT_EQ(reply.status, 503u);
    const ordered_json error = reply.json().at("error");
    EXPECT_EQ(error.at("code"), 503);
    EXPECT_EQ(error.at("message"), kMessage);
  }
}

TEST_F(UnavailableTest, BrokenRequestsEndOnlyTheirOwnConnection) {
  Client broken = connect();
  broken.send("nonsense\r\n\r\n");
  EXPECT_EQ(broken.receive().status, 400u);
  Client half = connect();  // and stays open, until the end of the test
  half.send("POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc");
  connect().close();
  EXPECT_EQ(connect().request("GET", "/health").status, 503u);
}

TEST_F(UnavailableTest, ConnectionsAreBounded) {
  unavailable_.reset();
  options_.max_connections = 2;
  unavailable_ = std::make_unique<Unavailable>(*listener_, options_, kMessage);
  Client first = connect(), second = connect();
  for (Client* client : {&first, &second})
    EXPECT_EQ(client->request("GET", "/health").status, 503u);
  Client third = connect();
  EXPECT_EQ(third.expect_no_room(first).status, 503u);
}

TEST_F(UnavailableTest, WhoComesAtTheChangeWaitsForTheNextListener) {
  Client before = connect();
  EXPECT_EQ(before.request("GET", "/health").status, 503u);
  unavailable_.reset();
  EXPECT_EQ(before.receive_some(), "");  // closed
  Client between = connect();
  between.send("GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
  unavailable_ = std::make_unique<Unavailable>(*listener_, options_, "The next.");
  const Reply reply = between.receive();
  EXPECT_EQ(reply.status, 503u);
  EXPECT_EQ(reply.json().at("error").at("message"), "The next.");
}

}  // namespace
}  // namespace octet::server::tests
