#include "src/quant/settings/name_filter.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(NameFilter, TakesAllByDefault) { EXPECT_TRUE(NameFilter().takes("lm_head")); }

TEST(NameFilter, PatternsSpanDotsAndExcludeWins) {
  const NameFilter f{{"*.mlp.*", "lm_head"}, {"*down_proj"}};
  EXPECT_TRUE(f.takes("model.layers.0.mlp.up_proj"));
  EXPECT_TRUE(f.takes("lm_head"));
  EXPECT_FALSE(f.takes("model.layers.0.mlp.down_proj"));
  EXPECT_FALSE(f.takes("model.layers.0.self_attn.q_proj"));
}

TEST(NameFilter, ClassesAndBraces) {
  const NameFilter f{{"model.layers.[0-2].*.{q,k,v}_proj"}, {}};
  EXPECT_TRUE(f.takes("model.layers.2.self_attn.k_proj"));
  EXPECT_FALSE(f.takes("model.layers.3.self_attn.k_proj"));
  EXPECT_FALSE(f.takes("model.layers.1.self_attn.o_proj"));
  EXPECT_FALSE((NameFilter{{"{q,k"}, {}}.takes("q")));  // no brace is closed: the text itself
}

}  // namespace
}  // namespace octet
