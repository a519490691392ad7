#include "src/cli/flags.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "src/base/error.h"

namespace octet::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::ThrowsMessage;
using Words = std::vector<std::string>;

// A program with one verb `do`, and `do less` below it.
struct Made {
  Program program{"octet", "about it", "1"};
  Verb verb = program.top().verb("do", "does it");
  Verb less = verb.verb("less", "does less");
  int runs = 0;

  Made() {
    verb.run([this] { ++runs; });
    less.run([] {});
  }
  void parse(Words words) {
    words.insert(words.begin(), "do");
    program.parse(words);
  }
  // What is wrong with the words; "" when nothing is.
  std::string wrong(const Words& words) {
    try {
      parse(words);
      return "";
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      return e.what();
    }
  }
};

TEST(Flags, FillTheirTargets) {
  Made m;
  std::string text = "before", positional;
  std::vector<std::string> list;
  int64_t integer = 0;
  size_t count = 7, times = 5;
  uint16_t small = 1;
  double number = 0;
  std::optional<double> maybe, not_given;
  bool boolean = true, toggle = false, negated = true;
  m.verb.text("NAME", positional, "");
  m.verb.text("--text,-t", text, "");
  m.verb.list("--list", list, "");
  m.verb.integer("--integer", integer, "");
  m.verb.integer("--count", count, "");
  m.verb.integer("--small", small, "");
  m.verb.number("--number", number, "");
  m.verb.number("--maybe", maybe, "");
  m.verb.number("--not-given", not_given, "");
  m.verb.boolean("--boolean", boolean, "");
  m.verb.toggle("--toggle", toggle, "");
  m.verb.toggle("--negated,!--no-negated", negated, "");
  m.verb.toggle("--times{3}", times, "");
  m.parse({"me",           "-t",      "first",     "--text",   "last",
           "--integer=-2", "--small", "9",         "--number", "0.5",
           "--maybe",      "1",       "--boolean", "FALSE",    "--toggle",
           "--no-negated", "--times", "--list",    "a",        "b",
           "--list",       "c"});
  EXPECT_EQ(positional, "me");
  EXPECT_EQ(text, "last");
  EXPECT_THAT(list, ElementsAre("a", "b", "c"));
  EXPECT_EQ(integer, -2);
  EXPECT_EQ(count, 7u);
  EXPECT_EQ(small, 9);
  EXPECT_EQ(number, 0.5);
  EXPECT_EQ(maybe, 1.0);
  EXPECT_EQ(not_given, std::nullopt);
  EXPECT_FALSE(boolean);
  EXPECT_TRUE(toggle);
  EXPECT_FALSE(negated);
  EXPECT_EQ(times, 3u);
  EXPECT_EQ(m.runs, 1);
}

TEST(Flags, WhatIsNoValueOfTheirsIsRefused) {
  const auto wrong = [](const Words& words) {
    Made m;
    int of_set = 1;
    size_t count = 0, few = 1;
    double number = 0;
    bool boolean = false;
    std::string checked;
    m.verb.integer("--of-set", of_set, "").one_of({"1", "3"});
    m.verb.integer("--count", count, "");
    m.verb.integer("--few", few, "").range(1, 4);
    m.verb.number("--number", number, "").range(0.0, 1.0);
    m.verb.boolean("--boolean", boolean, "");
    m.verb.text("--checked", checked, "")
        .check([](const std::string& word) { return word == "x" ? "" : "not x"; }, "only x");
    return m.wrong(words);
  };
  EXPECT_EQ(wrong({"--of-set", "3", "--count", "0", "--few", "4", "--number", "1", "--boolean",
                   "true", "--checked", "x"}),
            "");
  EXPECT_THAT(wrong({"--of-set", "2"}), HasSubstr("2 not in {1,3}"));
  EXPECT_THAT(wrong({"--count", "-1"}), HasSubstr("expected a whole number from 0 on, found -1"));
  EXPECT_THAT(wrong({"--few", "5"}), HasSubstr("5 not in range 1 to 4"));
  EXPECT_THAT(wrong({"--number", "much"}), HasSubstr("expected a number, found much"));
  EXPECT_THAT(wrong({"--boolean", "Yes"}), HasSubstr("expected True or False, found Yes"));
  EXPECT_THAT(wrong({"--checked", "y"}), HasSubstr("not x"));
  EXPECT_THAT(wrong({"--other"}), HasSubstr("(octet do --help explains)"));
}

TEST(Flags, RequiredOnesAndOnesWithNothing) {
  std::string needed, maybe = "before";
  std::vector<std::string> list = {"before"};
  Made m;
  m.verb.text("--needed", needed, "").required();
  m.verb.text("--maybe", maybe, "").or_nothing();
  m.verb.list("--list", list, "").or_nothing();
  EXPECT_THAT(m.wrong({}), HasSubstr("--needed is required"));
  EXPECT_EQ(m.wrong({"--needed", "x", "--maybe", "--list"}), "");
  EXPECT_EQ(maybe, "");
  EXPECT_THAT(list, ElementsAre(""));
}

TEST(Flags, ActionsOfThoseThatFillNothing) {
  Made m;
  std::string text;
  std::vector<std::string> list;
  double number = 0;
  int64_t times = 0;
  m.verb.on_text(
      "--text", [&](const std::string& v) { text = v; }, "");
  m.verb.on_list(
      "--list", [&](const std::vector<std::string>& v) { list = v; }, "");
  m.verb.on_number(
      "--number", [&](double v) { number = v; }, "");
  m.verb.on_toggle(
      "--toggle,!--no-toggle", [&](int64_t v) { times = v; }, "");
  m.parse({"--text", "x", "--list", "a", "--number", "2", "--no-toggle"});
  EXPECT_EQ(text, "x");
  EXPECT_THAT(list, ElementsAre("a"));
  EXPECT_EQ(number, 2);
  EXPECT_EQ(times, -1);
}

TEST(Flags, KnowWhetherTheyWereGiven) {
  Made m;
  double shown = 1, hidden = 1;
  std::string text;
  const Flag a = m.verb.number("--a-b,--other", shown, "").show_default();
  const Flag b = m.verb.number("--b", hidden, "");
  const Flag c = m.verb.text("--c", text, "");
  m.parse({"--a-b", "1.0", "--b", "1"});
  EXPECT_EQ(a.name(), "--a-b");
  EXPECT_TRUE(a.given());
  EXPECT_FALSE(a.given_another());
  EXPECT_TRUE(b.given_another());
  EXPECT_EQ(b.value(), "1");
  EXPECT_FALSE(c.given());
  EXPECT_EQ(c.value(), "");
  EXPECT_TRUE(m.verb.given("--other"));
  EXPECT_FALSE(m.verb.given("--c"));
}

TEST(Flags, Companions) {
  const auto wrong = [](const Words& words) -> std::string {
    Made m;
    std::string text, more;
    m.verb.text("--text", text, "");
    m.verb.text("--more", more, "").only_with("--text", ": alone it says nothing");
    m.parse(words);
    try {
      m.verb.expect_companions();
      return "";
    } catch (const Error& e) {
      return e.what();
    }
  };
  EXPECT_EQ(wrong({}), "");
  EXPECT_EQ(wrong({"--text", "x", "--more", "y"}), "");
  const std::string message = "--more goes with --text: alone it says nothing";
  EXPECT_EQ(wrong({"--more", "y"}), message);
  EXPECT_EQ(wrong({"--text", "", "--more", "y"}), message);
}

TEST(Flags, VerbsBelowRunInTheirStead) {
  Made m;
  m.program.parse({"do", "less"});
  EXPECT_EQ(m.runs, 0);
  m.program.top().needs_verb();
  EXPECT_THAT(
      [&] {
        Made n;
        n.program.top().needs_verb();
        n.program.parse({});
      },
      ThrowsMessage<Error>(HasSubstr("(octet VERB --help explains)")));
}

TEST(Flags, FindVerb) {
  Made m;
  const auto words = [&](const Words& typed) { return find_verb(m.program.top(), typed).words; };
  EXPECT_EQ(words({"do", "less", "--x"}), "do less");
  EXPECT_EQ(words({"do", "--x", "less"}), "do");
  EXPECT_EQ(words({"less"}), "");
  EXPECT_EQ(find_verb(m.program.top(), {"do", "less"}).verb.name(), "less");
}

TEST(Flags, AreListedWithTheirNames) {
  Made m;
  std::string text;
  m.less.text("NAME", text, "");
  m.less.text("--a,--b,-c", text, "").metavar("x|FILE").group("Others");
  const std::vector<FlagNames> flags = m.less.flags();
  ASSERT_EQ(flags.size(), 3u);  // after --help
  EXPECT_TRUE(flags[1].positional);
  EXPECT_THAT(flags[1].long_names, IsEmpty());
  EXPECT_THAT(flags[2].long_names, ElementsAre("a", "b"));
  EXPECT_THAT(flags[2].short_names, ElementsAre("c"));
  EXPECT_EQ(flags[2].type, "x|FILE");
  EXPECT_THAT(m.program.help(), HasSubstr("does it"));
  EXPECT_THAT(m.program.help(), Not(HasSubstr("does less")));
}

TEST(SameValue, NumbersAndWords) {
  EXPECT_TRUE(same_value("True", "true"));
  EXPECT_TRUE(same_value("1.0", "1"));
  EXPECT_TRUE(same_value("", ""));
  EXPECT_FALSE(same_value("0", ""));
  EXPECT_FALSE(same_value("1", "2"));
  EXPECT_FALSE(same_value("1x", "1"));
}

}  // namespace
}  // namespace octet::cli
