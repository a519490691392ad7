// Which bodies are parsed at all.
#include "src/server/http/body.h"

#include <gtest/gtest.h>

#include "src/server/http/errors.h"

namespace octet::server {
namespace {

TEST(Body, MustBeAnObjectWithinLimits) {
  const auto refused = [](const std::string& text) {
    try {
      parse_body(text);
      return false;
    } catch (const ApiError& e) {
      return e.status() == 400;
    }
  };
  EXPECT_FALSE(refused("{}"));
  for (const char* text : {"", "{", "\"str\"", "[]", "42", "null", "{\"a\": 1e309}", "{\"a\": NaN}",
                           "{\"a\": \"\\ud800\"}", "{\"a\": \"\xff\"}", "{} {}"})
    EXPECT_TRUE(refused(text)) << text;
  EXPECT_TRUE(refused(std::string(100000, '[')));
  EXPECT_TRUE(refused("{\"a\":" + std::string(100000, '[') + std::string(100000, ']') + "}"));
  EXPECT_EQ(parse_body(R"({"a": 1, "a": 2})").at("a"), 2);
  // Time is linear in the members of one object; how many values there may be is bounded.
  std::string many = "{\"k\": 0";
  for (int i = 0; i < 300000; ++i) many += ",\"" + std::to_string(i) + "\":0";
  EXPECT_EQ(parse_body(many + "}").size(), 300001u);
  std::string values = "{\"k\": [0";
  for (int i = 0; i < 5000000; ++i) values += ",0";
  EXPECT_TRUE(refused(values + "]}"));
}

}  // namespace
}  // namespace octet::server
