#include "src/base/utf8.h"

#include <gtest/gtest.h>

#include <string_view>
#include <utility>

namespace octet {
namespace {

TEST(Utf8, CountsCharacters) {
  EXPECT_EQ(utf8_length(""), 0u);
  EXPECT_EQ(utf8_length("a\u00e4\u4f60\U0001F600e\u0301"), 6u);
}

TEST(Utf8, APrefixEndsWithACharacter) {
  const std::string_view text = "a\u4f60b";  // 1, 3, 1 bytes
  for (const auto& [bytes, size] :
       {std::pair<size_t, size_t>{0, 0}, {1, 1}, {2, 1}, {3, 1}, {4, 4}, {5, 5}, {9, 5}})
    EXPECT_EQ(utf8_prefix(text, bytes), text.substr(0, size)) << bytes;
}

}  // namespace
}  // namespace octet
