// Errors as clients see them.
#include "src/server/http/errors.h"

#include <gtest/gtest.h>

namespace octet::server {
namespace {

TEST(ApiErrors, NeverEchoMuch) {
  const ApiError e = bad_value("f", "small", std::string(1 << 20, 'x'));
  EXPECT_LT(std::string(e.what()).size(), 600u);
  EXPECT_EQ(e.json()["error"]["code"], 400);
  EXPECT_EQ(http_error(404).json()["error"]["type"], "Not Found");
  EXPECT_EQ(http_error(404).json()["error"]["param"], nullptr);
}

}  // namespace
}  // namespace octet::server
