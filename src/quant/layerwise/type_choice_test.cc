#include "src/quant/layerwise/type_choice.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

struct Fixture {
  std::vector<GroupCost> costs = {
      {{"q", "k", "v"}, 0.5, 0.4, 300},
      {{"o"}, 2.0, 1.5, 100},
      {{"down"}, 10.0, 1.0, 200},
      {{"head"}, 50.0, 1.0, 10},  // kept
  };
  std::map<std::string, Scheme> types = {{"q", Scheme::kW8A8},    {"k", Scheme::kW8A8},
                                         {"v", Scheme::kW8A8},    {"o", Scheme::kW8A8},
                                         {"down", Scheme::kW8A8}, {"head", Scheme::kFloat}};
  KeptInFloat kept = {{"head", "last"}};
  void choose(int64_t dynamic, int64_t in_float) {
    choose_types(costs, {in_float, dynamic}, types, kept);
  }
};

TEST(TypeChoice, NoBudgetChangesNothing) {
  Fixture f;
  const auto before = f.types;
  f.choose(0, 0);
  EXPECT_EQ(f.types, before);
}

TEST(TypeChoice, TheLargestGainComesFirst) {
  Fixture f;
  f.choose(1, 0);
  EXPECT_EQ(f.types.at("down"), Scheme::kW8A8Dynamic);
  EXPECT_EQ(f.types.at("o"), Scheme::kW8A8);
}

TEST(TypeChoice, GroupsMoveTogetherOrNotAtAll) {
  Fixture f;
  f.choose(4, 0);  // down, o, and no room for q/k/v
  EXPECT_EQ(f.types.at("o"), Scheme::kW8A8Dynamic);
  for (const char* name : {"q", "k", "v"}) EXPECT_EQ(f.types.at(name), Scheme::kW8A8);
  f = Fixture();
  f.choose(5, 0);
  for (const char* name : {"q", "k", "v"}) EXPECT_EQ(f.types.at(name), Scheme::kW8A8Dynamic);
}

TEST(TypeChoice, ByItselfItTakesWhatPays) {
  Fixture f;
  f.costs[0].per_token = 0.49;  // gains less than half a percent of 12.5
  f.choose(ChooseTypes::kWhereItPays, 0);
  EXPECT_EQ(f.types.at("down"), Scheme::kW8A8Dynamic);
  EXPECT_EQ(f.types.at("o"), Scheme::kW8A8Dynamic);
  EXPECT_EQ(f.types.at("q"), Scheme::kW8A8);
}

TEST(TypeChoice, FloatGoesToTheLargestGainAByte) {
  Fixture f;
  f.choose(1, 1);  // after down is per token, o costs most a byte
  EXPECT_EQ(f.types.at("o"), Scheme::kFloat);
  EXPECT_EQ(f.types.at("down"), Scheme::kW8A8Dynamic);
  EXPECT_TRUE(f.kept.contains("o"));
  EXPECT_EQ(f.kept.size(), 2u);
}

}  // namespace
}  // namespace octet
