#include "src/quant/settings/yaml_map.h"

#include <gmock/gmock.h>

namespace octet {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

YamlMap map_of(const std::string& text) { return {YAML::Load(text), "r.yaml", "spec"}; }

template <typename F>
std::string message_of(const F& action) {
  try {
    action();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}

TEST(YamlMap, ValuesAndFallbacks) {
  YamlMap m = map_of("{a: x, b: 1.5, c: 7, d: true, e: [p, q], f: {g: 2}}");
  EXPECT_EQ(m.text("a", "y"), "x");
  EXPECT_EQ(m.number("b", 0, 0, 2), 1.5);
  EXPECT_EQ(m.integer("c", 0, 0, 10), 7);
  EXPECT_TRUE(m.flag("d", false));
  EXPECT_THAT(m.names("e", {}), ElementsAre("p", "q"));
  EXPECT_EQ(m.map("f").integer("g", 0, 0, 10), 2);
  EXPECT_EQ(m.text("z", "y"), "y");
  EXPECT_EQ(m.integer("y", 3, 0, 10), 3);
  EXPECT_TRUE(m.list("x").empty());
  EXPECT_TRUE(m.has("a"));
  EXPECT_FALSE(m.has("z"));
  m.finish();
}

TEST(YamlMap, AFieldThatNobodyTakesIsRefusedWithTheKnownOnes) {
  YamlMap m = map_of("{alpha: 1, alhpa: 2}");
  m.number("alpha", 0, 0, 2);
  const std::string message = message_of([&] { m.finish(); });
  EXPECT_THAT(message, HasSubstr("r.yaml"));
  EXPECT_THAT(message, HasSubstr("alhpa"));
  YamlMap ignoring = map_of("{alpha: 1}");
  ignoring.ignore("alpha");
  ignoring.finish();
}

TEST(YamlMap, WrongTypesAndRangesNameTheField) {
  EXPECT_THAT(message_of([] { map_of("a: x").integer("a", 0, 0, 10); }), HasSubstr("spec.a"));
  EXPECT_THAT(message_of([] { map_of("a: 11").integer("a", 0, 0, 10); }), HasSubstr("11"));
  EXPECT_THAT(message_of([] { map_of("a: .nan").number("a", 0, 0, 10); }), HasSubstr("spec.a"));
  EXPECT_THAT(message_of([] { map_of("a: u").word("a", "v", {"v", "w"}); }), HasSubstr("w"));
  EXPECT_THAT(message_of([] { map_of("a: maybe").flag("a", false); }), HasSubstr("spec.a"));
}

}  // namespace
}  // namespace octet
