#include "src/server/http/framing.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace octet::server {
namespace {

using Lines = std::vector<std::pair<std::string, std::string>>;

// The status that a header is refused with; 0: none.
unsigned fault(unsigned version, const Lines& lines) {
  HttpRequest header;
  header.version(version);
  for (const auto& [name, value] : lines) header.insert(name, value);
  const auto error = framing_fault(header);
  return error ? error->status() : 0;
}

TEST(Framing, TransferCodings) {
  const auto coded = [](const std::string& value) {
    return fault(11, {{"Host", "a"}, {"Transfer-Encoding", value}});
  };
  for (const char* good : {"chunked", "Chunked", "CHUNKED"}) EXPECT_EQ(coded(good), 0u) << good;
  for (const char* other : {"identity", "gzip", "gzip, chunked", "chunked, identity", "xchunked",
                            "chunked;q=1", "\013chunked", "", ", chunked", "\"chunked\""})
    EXPECT_EQ(coded(other), 501u) << other;
  EXPECT_EQ(
      fault(11,
            {{"Host", "a"}, {"Transfer-Encoding", "identity"}, {"transfer-encoding", "chunked"}}),
      501u);
  EXPECT_EQ(fault(10, {{"Transfer-Encoding", "chunked"}}), 400u);
}

TEST(Framing, Hosts) {
  EXPECT_EQ(fault(11, {}), 400u);
  EXPECT_EQ(fault(11, {{"Host", ""}}), 0u);
  EXPECT_EQ(fault(11, {{"Host", "a"}, {"host", "a"}}), 400u);
  EXPECT_EQ(fault(10, {}), 0u);
  EXPECT_EQ(fault(10, {{"Host", "a"}, {"Host", "b"}}), 400u);
}

// RFC 9112, 3.2: uri-host [ ":" port ].
TEST(Framing, WhatAHostIs) {
  for (const char* good :
       {"", ":80", "a", "a:", "localhost:8000", "127.0.0.1", "127.0.0.1:1", "a_b-c.d~e", "a%20B%c3",
        "x!$&'()*+,;=y:7", "[::1]", "[::1]:8000", "[2001:db8::ff00:42:8329]", "[::ffff:1.2.3.4]:"})
    for (unsigned version : {10, 11}) EXPECT_EQ(fault(version, {{"Host", good}}), 0u) << good;
  for (const char* wrong :
       {"a b",        "a b/c?@#", "a, b",   "a/",        "a?b",     "a#",      "u@a", "a:b",
        "a:80:81",    "a:-1",     "a:+1",   "a%",        "a%2",     "a%2g",    "a\\", "\"a\"",
        "<a>",        "::1",      "[::1",   "[::1]8000", "[::1]:x", "[]",      "[a]", "[127.0.0.1]",
        "[::1%eth0]", "[::1]]",   "a[::1]", "\xc3\xa9",  "a\tb",    "http://a"})
    for (unsigned version : {10, 11}) EXPECT_EQ(fault(version, {{"Host", wrong}}), 400u) << wrong;
}

}  // namespace
}  // namespace octet::server
