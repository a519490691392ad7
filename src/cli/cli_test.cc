#include "src/cli/cli.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet::cli {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(HumanNumber, ThousandsAndPowersOfTwo) {
  const auto number = [](const char* text) { return parse_human_number(text, "--x"); };
  EXPECT_EQ(number("4096"), 4096u);
  EXPECT_EQ(number("1"), 1u);
  EXPECT_EQ(number("25.6k"), 25600u);
  EXPECT_EQ(number("32K"), 32768u);
  EXPECT_EQ(number("2m"), 2'000'000u);
  EXPECT_EQ(number("2M"), size_t{2} << 20);
  EXPECT_EQ(number("1g"), 1'000'000'000u);
  EXPECT_EQ(number("1G"), size_t{1} << 30);
}

TEST(HumanNumber, OthersAreRefused) {
  for (const char* text : {"", "k", "0", "-1", "0.5", "12x", "1KB", "1 K", "nan", "inf", "2e15"})
    EXPECT_THAT([&] { parse_human_number(text, "--x"); },
                ThrowsMessage<Error>(AllOf(HasSubstr("--x"), HasSubstr("no size"))))
        << text;
}

TEST(Bytes, UnitsOf1024AndOf1000) {
  const auto bytes = [](const char* text) { return parse_bytes(text, "--x"); };
  EXPECT_EQ(bytes("16G"), uint64_t{16} << 30);
  EXPECT_EQ(bytes("16g"), 16'000'000'000u);
  EXPECT_EQ(bytes("512MiB"), uint64_t{512} << 20);
  EXPECT_EQ(bytes("512mib"), uint64_t{512} << 20);
  EXPECT_EQ(bytes("1.5GB"), 1'500'000'000u);
  EXPECT_EQ(bytes("1.5gb"), 1'500'000'000u);
  EXPECT_EQ(bytes("100kB"), 100'000u);
  EXPECT_EQ(bytes("1TiB"), uint64_t{1} << 40);
  EXPECT_EQ(bytes("7B"), 7u);
  EXPECT_EQ(bytes("7"), 7u);
}

TEST(Bytes, OthersAreRefused) {
  for (const char* text : {"", "GB", "0GB", "-1GB", "1XB", "1GBs", "1 GB", "0.1B", "9999TB", "1e"})
    EXPECT_THAT([&] { parse_bytes(text, "--x"); },
                ThrowsMessage<Error>(AllOf(HasSubstr("--x"), HasSubstr("512MiB"))))
        << text;
}

TEST(Table, ColumnsAreAsWideAsTheirWidestCell) {
  EXPECT_EQ(format_table({{"name", "n"}, {"a", "100"}, {"bcdefg", "7"}}, {false, true}),
            "name      n\n"
            "a       100\n"
            "bcdefg    7\n");
  // No spaces at the end of a line; rows may be shorter than others.
  EXPECT_EQ(format_table({{"a", "bb"}, {"ccc", ""}, {"d"}}, {false, false}), "a    bb\nccc\nd\n");
  EXPECT_EQ(format_table({}, {}), "");
}

TEST(FlagJson, OfTheTypeThatIsWanted) {
  EXPECT_EQ(flag_json("[1, 2]", "--x", json::value_t::array), json({1, 2}));
  EXPECT_EQ(flag_json(R"({"a": 1})", "--x", json::value_t::object), json({{"a", 1}}));
}

TEST(FlagJson, OthersAreWrongUsage) {
  for (const char* text : {"", "{", "1", R"({"a": 1})"}) try {
      flag_json(text, "--x", json::value_t::array);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      EXPECT_THAT(e.what(), AllOf(HasSubstr("--x"), HasSubstr("a JSON list")));
    }
}

}  // namespace
}  // namespace octet::cli
