// What the report holds of a linear, by hand.
#include "src/quant/output/report_data.h"

#include <gtest/gtest.h>

#include <cmath>

#include "src/quant/layer/built_linear.h"

namespace octet {
namespace {

constexpr size_t kWorkers = 3;

void add(InputSample& sample, const Rows& x) {
  static ThreadTeam team(kWorkers);
  team.run([&](Worker& w) { sample.add(w, x); });
}

TEST(InputSample, KeepsSomeRowsAndAllExtremes) {
  InputSample few(2, 3, kWorkers), many(1, 1000, kWorkers);
  const std::vector<float> x = {1, 2, 9, 3, 4, 9, -5, 6, 9};  // the third column is another's
  add(few, {x.data(), 3, 1});
  add(few, {x.data() + 3, 3, 2});
  EXPECT_EQ(few.values(), (std::vector<float>{1, 2, 3, 4, -5, 6}));
  EXPECT_EQ(few.range().min, -5);
  EXPECT_EQ(few.range().max, 6);
  for (int i = 0; i < 1000; ++i) {
    const float v = static_cast<float>(i);
    add(many, {&v, 1, 1});
  }
  EXPECT_EQ(many.rows(), InputSample::kRows);
  EXPECT_EQ(many.values()[0], 0);
  EXPECT_EQ(many.values()[1], 4);  // the first t with 256 t / 1000 >= 1
  EXPECT_EQ(many.values()[255], 997);
  EXPECT_EQ(many.range().max, 999);
}

class Report : public ::testing::Test {
 protected:
  // One output: 1 x0 + 1 x1, weights 64 * (1 / 64).
  QuantizedLinear rounded() const {
    QuantizedLinear q;
    q.rounded = RoundedWeight{{64, 64}, {1.0f / 64}, {0}, {128}};
    q.input = {0.5f, 0};
    return q;
  }
  ordered_json linear(const KeptInFloat& kept = {}) { return report_.json(kept)["linears"][0]; }

  ThreadTeam team_{2};
  std::unique_ptr<Communicator> alone_ = solo_communicator();
  FloatWeight weight_{{1, 2, false}, {1, 1}, {}};
  ReportData report_{DType::kF32, team_};
};

// (0.2, 1) becomes (0, 1) and (70, 0) becomes (63.5, 0).
TEST_F(Report, OfAStaticLinear) {
  const std::vector<float> x = {0.2f, 1, 70, 0};
  InputSample seen(2, 2, kWorkers);
  add(seen, {x.data(), 2, 2});
  const std::vector<QuantizedLinear> quantized = {rounded()};
  const auto built = build_linear({"a"}, {&weight_}, quantized, Scheme::kW8A8, team_, *alone_);
  report_.add({"a"}, Scheme::kW8A8, &seen, {&weight_}, quantized, built.get());
  const ordered_json l = linear();
  EXPECT_EQ(l["type"], "W8A8");
  EXPECT_EQ(l["inputs"], 2);
  EXPECT_EQ(l["input"]["min"], 0);
  EXPECT_EQ(l["input"]["max"], 70);
  EXPECT_EQ(l["input"]["low"], -64);
  EXPECT_EQ(l["input"]["high"], 63.5);
  EXPECT_EQ(l["input"]["clipped"], 0.25);
  const double noise = 0.2 * 0.2 + 6.5 * 6.5;
  EXPECT_NEAR(l["input"]["snr"].get<double>(), 10 * std::log10((1.04 + 4900) / noise), 1e-3);
  EXPECT_EQ(l["weight_snr"], 200);
  EXPECT_NEAR(l["output_snr"].get<double>(), 10 * std::log10((1.44 + 4900) / noise), 1e-3);
  const ordered_json h = report_.json({})["histograms"][0];
  EXPECT_EQ(h["linears"][0], "a");
  EXPECT_EQ(h["counts"].size(), 64u);
  EXPECT_EQ(h["counts"][0], 3);  // 0.2, 1 and 0 of 70 / 64 each
  EXPECT_EQ(h["counts"][63], 1);
}

TEST_F(Report, OfLinearsInFloatAndWithoutCalibration) {
  InputSample seen(2, 1, kWorkers);
  const std::vector<float> x = {0, 1};
  add(seen, {x.data(), 2, 1});
  report_.add({"kept"}, Scheme::kFloat, &seen, {&weight_}, {}, nullptr);
  report_.add({"blind"}, Scheme::kW8A16, nullptr, {&weight_}, {rounded()}, nullptr);
  const ordered_json all = report_.json({{"kept", "hard"}, {"lm_head", "last"}});
  const ordered_json& l = all["linears"];
  ASSERT_EQ(l.size(), 3u);
  EXPECT_EQ(l[0]["reason"], "hard");
  EXPECT_GT(l[0]["input"]["snr_if_static"].get<double>(), 40);
  EXPECT_FALSE(l[0].contains("weight_snr"));
  EXPECT_EQ(l[1]["weight_snr"], 200);
  EXPECT_FALSE(l[1].contains("input"));
  EXPECT_EQ(l[2]["name"], "lm_head");
  EXPECT_TRUE(all["histograms"].empty());
}

TEST_F(Report, OfTheStatesAfterALayer) {
  const std::vector<float> a = {3, 4}, b = {3, 4.5f};
  report_.add_states(0, a.data(), b.data(), 2);
  EXPECT_EQ(report_.json({})["layers"][0]["state_snr"], 20);  // 25 over 1 / 4
}

}  // namespace
}  // namespace octet
