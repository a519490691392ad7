#include "src/quant/output/journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <limits>

#include "src/base/error.h"

namespace octet {
namespace {

class JournalTest : public testing::Test {
 protected:
  JournalTest()
      : dir_(fs::path(testing::TempDir()) / ("octet_journal_" + std::to_string(::getpid()))) {
    fs::create_directories(dir_);
  }
  ~JournalTest() override { fs::remove_all(dir_); }

  // A run that finishes `layers` layers of `pass` and is interrupted.
  void run(Pass pass, int64_t layers) {
    const OutputFolder output(dir_ / "out", true);
    Journal journal(output, print_);
    std::vector<float> states(5);
    for (int64_t layer = 0; layer < layers; ++layer) {
      for (float& v : states) v = static_cast<float>(layer) + 0.1f;
      journal.put("score", std::numeric_limits<double>::infinity());
      journal.put("scale", std::vector<float>{0.1f, 3});
      journal.finish_layer(pass, layer, {states, std::span(states).first(2)});
    }
    journal.wait();
  }

  fs::path dir_;
  const Fingerprint print_ = {{"--flag", "a"}, {"text", "b"}};
};

TEST_F(JournalTest, GoesOnAfterTheLastLayer) {
  run(Pass::kQuantize, 3);
  const OutputFolder output(dir_ / "out", false, true);
  const Journal journal(output, print_);
  EXPECT_EQ(journal.next_layer(Pass::kMeasure), INT64_MAX);
  EXPECT_EQ(journal.next_layer(Pass::kQuantize), 3);
  EXPECT_EQ(journal.layers_done(4, 4), 7);
  EXPECT_EQ(journal.get<double>("score"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(journal.get<std::vector<float>>("scale"), (std::vector<float>{0.1f, 3}));
  EXPECT_THROW(journal.get<double>("none"), Error);
  EXPECT_THROW(journal.get<std::string>("score"), Error);
  std::vector<float> a(5), b(2), c(3);
  EXPECT_FALSE(journal.resume(Pass::kMeasure, {a, b}));
  EXPECT_TRUE(journal.resume(Pass::kQuantize, {a, b}));
  EXPECT_EQ(a, std::vector<float>(5, 2.1f));
  EXPECT_EQ(b, std::vector<float>(2, 2.1f));
  EXPECT_THROW(journal.resume(Pass::kQuantize, {a, c}), Error);
  size_t states = 0;
  for (const auto& entry : fs::directory_iterator(output.partial()))
    states += entry.path().filename().string().starts_with("states");
  EXPECT_EQ(states, 1u);  // of the last layer only
}

TEST_F(JournalTest, InTheFirstPassTheSecondHasAllToDo) {
  run(Pass::kMeasure, 2);
  const OutputFolder output(dir_ / "out", false, true);
  const Journal journal(output, print_);
  EXPECT_EQ(journal.next_layer(Pass::kMeasure), 2);
  EXPECT_EQ(journal.next_layer(Pass::kQuantize), 0);
  EXPECT_EQ(journal.layers_done(4, 4), 2);
}

TEST_F(JournalTest, WritesALayerBeforeItSaysSo) {
  const OutputFolder output(dir_ / "out", false);
  Journal journal(output, print_);
  journal.finish_layer(Pass::kQuantize, 0, {}, [&] { EXPECT_FALSE(fs::exists(output.journal())); });
  journal.wait();
  EXPECT_TRUE(fs::exists(output.journal()));
  const std::string first = read_text(output.journal());
  journal.finish_layer(Pass::kQuantize, 1, {}, [] { throw Error("disk full"); });
  EXPECT_THROW(journal.wait(), Error);
  EXPECT_EQ(read_text(output.journal()), first);
}

TEST_F(JournalTest, AnotherRunIsNamed) {
  run(Pass::kMeasure, 1);
  const OutputFolder output(dir_ / "out", false, true);
  const auto message = [&](const Fingerprint& f) -> std::string {
    try {
      const Journal journal(output, f);
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      return e.what();
    }
    return "";
  };
  EXPECT_NE(message({{"--flag", "c"}, {"text", "b"}}).find("field --flag; expected a; found c"),
            std::string::npos);
  EXPECT_NE(message({{"--flag", "a"}}).find("field text"), std::string::npos);
  EXPECT_NE(message({{"--flag", "a"}, {"text", "b"}, {"x", "y"}}).find("field x"),
            std::string::npos);
  EXPECT_EQ(message(print_), "");
}

TEST_F(JournalTest, DamageIsAnError) {
  run(Pass::kMeasure, 1);
  const OutputFolder output(dir_ / "out", false, true);
  const std::string whole = read_text(output.journal());
  for (size_t at = 0; at < whole.size(); at += 7) {
    std::string bad = whole;
    bad[at] = static_cast<char>(bad[at] ^ 1);
    write_text(output.journal(), bad);
    EXPECT_THROW(Journal(output, print_), Error) << at;
    write_text(output.journal(), whole.substr(0, at));
    EXPECT_THROW(Journal(output, print_), Error) << at;
  }
}

}  // namespace
}  // namespace octet
