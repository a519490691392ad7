#include "src/base/file.h"

#include <gtest/gtest.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <functional>
#include <vector>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/progress.h"

namespace octet {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() : dir_(fs::path(testing::TempDir()) / ("octet_file_" + std::to_string(::getpid()))) {
    fs::create_directories(dir_);
  }
  ~FileTest() override { fs::remove_all(dir_); }
  fs::path dir_;
};

TEST_F(FileTest, MapsWhatWasWritten) {
  write_text(dir_ / "a", "hello");
  const MappedFile f(dir_ / "a");
  EXPECT_EQ(read_text(dir_ / "a"), "hello");
  EXPECT_EQ(f.bytes().size(), 5u);
  EXPECT_THROW(MappedFile(dir_ / "none"), Error);
  EXPECT_THROW(MappedFile{dir_}, Error);
  write_text(dir_ / "empty", "");
  EXPECT_TRUE(MappedFile(dir_ / "empty").bytes().empty());
}

TEST_F(FileTest, WhatStandsInForAFileIsNamed) {
  write_text(dir_ / "pointer",
             "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n");
  fs::create_symlink("../../blobs/0a1b", dir_ / "link");
  const auto said = [](const std::function<void()>& action) -> std::string {
    try {
      action();
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_NE(said([&] { read_text(dir_ / "pointer"); }).find("git lfs pull"), std::string::npos);
  EXPECT_NE(said([&] { read_text(dir_ / "link"); }).find("blobs/0a1b"), std::string::npos);
  EXPECT_EQ(said([&] { refuse_lfs_pointer(MappedFile()); }), "no error");
}

TEST_F(FileTest, ALinkToNothingIsAnEntry) {
  EXPECT_FALSE(has_entry(dir_ / "none"));
  EXPECT_FALSE(has_entry(dir_ / "none/below"));
  write_text(dir_ / "file", "x");
  EXPECT_TRUE(has_entry(dir_ / "file"));
  EXPECT_TRUE(has_entry(dir_));
  EXPECT_FALSE(has_entry(dir_ / "file/below"));
  fs::create_symlink("nowhere", dir_ / "dangling");
  fs::create_symlink("loop", dir_ / "loop");
  EXPECT_TRUE(has_entry(dir_ / "dangling"));
  EXPECT_TRUE(has_entry(dir_ / "loop"));
}

TEST_F(FileTest, AFileCutShortUnderItsMappingIsNamed) {
  write_text(dir_ / "a", std::string(1 << 16, 'x'));
  MappedFile moved(dir_ / "a");
  const MappedFile f = std::move(moved);
  fs::resize_file(dir_ / "a", 100);
  EXPECT_EXIT(
      {
        volatile std::byte last = f.bytes()[(1 << 16) - 1];
        (void)last;
      },
      testing::ExitedWithCode(1), "octet: error: .*/a: became shorter");
  EXPECT_EQ(f.bytes()[0], std::byte{'x'});
}

TEST_F(FileTest, AnOutputGoesOnBehindWhatIsKept) {
  write_text(dir_ / "a", "hello");
  {
    OutputFile file(dir_ / "a", 2);
    file.write("y");
    EXPECT_EQ(file.size(), 3u);
    file.close();
  }
  EXPECT_EQ(read_text(dir_ / "a"), "hey");
  EXPECT_THROW(OutputFile(dir_ / "a", 4), Error);
  EXPECT_THROW(OutputFile(dir_ / "none", 0), Error);
  replace_text(dir_ / "a", "new");
  EXPECT_EQ(read_text(dir_ / "a"), "new");
  EXPECT_FALSE(fs::exists(dir_ / "a.new"));
}

TEST(Json, LimitsDepthAndDoubledKeys) {
  EXPECT_THROW(parse_json(std::string(200, '[') + std::string(200, ']'), "t"), Error);
  EXPECT_THROW(parse_json(std::string(1000000, '['), "t"), Error);
  EXPECT_THROW(parse_json(R"({"a":1,"a":2})", "t", {.unique_keys = true}), Error);
  EXPECT_NO_THROW(parse_json(R"({"a":{"b":1},"c":{"b":2}})", "t", {.unique_keys = true}));
  EXPECT_THROW(parse_json("{", "t"), Error);
}

double seconds_of_cpu() {
  timespec t;
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

// Each of the forms at four times the size takes four times as long, not sixteen times: members of
// one parent, the same key again and again, objects in one array, keys that differ at their end.
TEST(Json, ParsingIsLinear) {
  const auto joined = [](size_t n, const char* begin, const char* end, const auto& item) {
    std::string text = begin;
    for (size_t i = 0; i < n; ++i) text += std::string(i == 0 ? "" : ",") + item(i);
    return text + end;
  };
  const std::string prefix(40, 'k');
  const std::vector<std::function<std::string(size_t)>> forms = {
      [&](size_t n) {
        return joined(n, "{", "}", [](size_t i) { return "\"" + std::to_string(i) + "\":{}"; });
      },
      [&](size_t n) { return joined(n, "{", "}", [](size_t) { return "\"a\":[1]"; }); },
      [&](size_t n) { return joined(n, "[", "]", [](size_t) { return "{\"a\":1}"; }); },
      [&](size_t n) {
        return joined(n, "{", "}",
                      [&](size_t i) { return "\"" + prefix + std::to_string(i) + "\":1"; });
      }};
  constexpr size_t kMembers = 20000;
  for (size_t f = 0; f < forms.size(); ++f) {
    const std::string small = forms[f](kMembers), large = forms[f](4 * kMembers);
    const auto time = [](const std::string& text) {
      const double start = seconds_of_cpu();
      EXPECT_FALSE(parse_ordered_json(text, "t").empty());
      EXPECT_FALSE(parse_json(text, "t").empty());
      return seconds_of_cpu() - start;
    };
    time(small);  // warm
    double once = 1e9, four = 1e9;
    for (int i = 0; i < 3; ++i) {
      once = std::min(once, time(small));
      four = std::min(four, time(large));
    }
    EXPECT_LT(four, 9 * once) << "form " << f;
  }
}

TEST(Json, OfAKeyThatOccursTwiceTheLastValueCounts) {
  const char* text = R"({"a":1,"b":2,"a":[3]})";
  EXPECT_EQ(parse_ordered_json(text, "t").dump(), R"({"a":[3],"b":2})");
  EXPECT_EQ(parse_json(text, "t").dump(), R"({"a":[3],"b":2})");
}

TEST(Json, LimitsValues) {
  EXPECT_EQ(parse_json("[1,2,3]", "t", {.values = 4}).size(), 3u);
  EXPECT_THROW(parse_json("[1,2,3,4]", "t", {.values = 4}), Error);
}

TEST(Json, LookUpsNameFieldAndRange) {
  const json o = parse_json(R"({"n": 3, "s": "x", "z": null, "big": 18446744073709551615})", "c");
  EXPECT_EQ(get_int(o, "n", "c", 1, 5), 3);
  EXPECT_EQ(get_int_or(o, "z", 7, "c", 1, 9), 7);
  EXPECT_THROW(get_int(o, "s", "c", 1, 5), Error);
  EXPECT_THROW(get_int(o, "n", "c", 4, 5), Error);
  EXPECT_THROW(get_int(o, "big", "c", -1, INT64_MAX), Error);
  EXPECT_THROW(get_bool_or(o, "n", false, "c"), Error);
}

TEST(Progress, FormatsForPeople) {
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_seconds(185), "3 min 05 s");
  EXPECT_EQ(format_rate(12.3e6), "12 MB/s");
  EXPECT_EQ(format_rate(9.96e6), "10 MB/s");
  EXPECT_EQ(format_rate(9.94e6), "9.9 MB/s");
  EXPECT_EQ(format_rate(0.31e6), "0.3 MB/s");
  EXPECT_EQ(format_rate(1.234e9), "1.23 GB/s");
}

TEST(ForEachLine, SkipsBlankLinesAndCountsThem) {
  std::vector<std::pair<size_t, std::string>> seen;
  const auto note = [&](size_t number, std::string_view line) { seen.emplace_back(number, line); };
  for_each_line("a\n\n  \t\r\nb", note);
  EXPECT_EQ(seen, (std::vector<std::pair<size_t, std::string>>{{1, "a"}, {4, "b"}}));
  seen.clear();
  for_each_line("", note);
  for_each_line("\n", note);
  EXPECT_TRUE(seen.empty());
  for_each_line("x\n", note);
  EXPECT_EQ(seen.size(), 1u);
}

}  // namespace
}  // namespace octet
