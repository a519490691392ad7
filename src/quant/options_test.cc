#include "src/quant/options.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(FlagSpelling, OfMethodsAndLevels) {
  EXPECT_EQ(anti_method_name(AntiMethod::kNone), "");
  EXPECT_EQ(anti_method_name(AntiMethod::kM3), "m3");
  for (const char* name : {"", "m1", "m2", "m3", "m4", "m5", "m6"})
    EXPECT_EQ(anti_method_name(parse_anti_method(name).value()), name);
  EXPECT_FALSE(parse_anti_method("m7"));
  EXPECT_EQ(disable_level_name(12), "L12");
}

TEST(HasStaticInput, TypesWithRanges) {
  EXPECT_TRUE(has_static_input(Scheme::kW8A8));
  EXPECT_TRUE(has_static_input(Scheme::kW8A8Mix));
  EXPECT_FALSE(has_static_input(Scheme::kW8A8Dynamic));
  EXPECT_FALSE(has_static_input(Scheme::kW8A16));
}

}  // namespace
}  // namespace octet
