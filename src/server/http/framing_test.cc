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
  for (const char* other :
       {"identity", "gzip", "gzip, chunked", "chunked, identity", "xchunked", "chunked;q=1",
        "\x0b"
        "chunked",
        "", ", chunked", "\"chunked\""})
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

}  // namespace
}  // namespace octet::server
