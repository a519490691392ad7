// Intervals against numpy (testdata/eval.json), figures by hand.
#include "src/eval/summary.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/base/file.h"

namespace octet {
namespace {

TEST(Bootstrap, EqualsNumpy) {
  const fs::path path = fs::path(OCTET_SOURCE_DIR) / "src/eval/testdata/eval.json";
  const json golden = parse_json(read_text(path), "eval.json").at("bootstrap");
  const auto found = ratio_interval(golden.at("numerators").get<std::vector<double>>(),
                                    golden.at("denominators").get<std::vector<double>>());
  ASSERT_TRUE(found);
  EXPECT_NEAR(found->low, golden.at("low").get<double>(), 1e-12);
  EXPECT_NEAR(found->high, golden.at("high").get<double>(), 1e-12);
}

TEST(Bootstrap, IsExactWherePassagesAgreeAndSilentAboutOne) {
  const std::vector<double> one = {3}, two = {6}, threes = {3, 6, 9}, twos = {2, 4, 6};
  EXPECT_FALSE(ratio_interval(one, two));
  const auto found = ratio_interval(threes, twos);
  EXPECT_DOUBLE_EQ(found->low, 1.5);
  EXPECT_DOUBLE_EQ(found->high, 1.5);
}

// Two passages of 10 and 30 tokens: the long one weighs three times as much.
TEST(Summary, WeighsByTokens) {
  std::vector<TextScore> reference(2), model(2);
  reference[0].tokens = model[0].tokens = 10;
  reference[1].tokens = model[1].tokens = 30;
  reference[0].log_loss = 10;
  reference[1].log_loss = 60;
  for (size_t i = 0; i < 2; ++i) model[i].log_loss = 1.1 * reference[i].log_loss;
  model[0].kl = 1;
  model[1].kl = 1;
  model[0].same_top1 = 10;
  model[1].same_top1 = 10;
  model[0].shared_top = 40;
  model[1].shared_top = 60;
  model[1].largest_error = 2.5f;
  const TextSummary s = summarize(reference, model);
  EXPECT_EQ(s.tokens, 40u);
  EXPECT_NEAR(s.perplexity.value, std::exp(77.0 / 40), 1e-12);
  EXPECT_NEAR(s.ratio.value, std::exp(7.0 / 40), 1e-12);
  EXPECT_NEAR(s.kl.value, 2.0 / 40, 1e-12);
  EXPECT_NEAR(s.top1.value, 0.5, 1e-12);
  EXPECT_NEAR(s.top5.value, 0.5, 1e-12);
  EXPECT_EQ(s.largest_error, 2.5);
  EXPECT_NEAR(s.top1.interval->low, 1.0 / 3, 1e-9);  // the long passage drawn twice
  EXPECT_NEAR(s.top1.interval->high, 1, 1e-9);
}

TEST(Summary, SharesOfRightAnswers) {
  const Figure f = accuracy({true, true, true, false});
  EXPECT_EQ(f.value, 0.75);
  ordered_json object;
  add_figure(object, "acc", f);
  EXPECT_EQ(object["acc"], 0.75);
  EXPECT_EQ(object["acc_interval"][1], 1);
}

}  // namespace
}  // namespace octet
