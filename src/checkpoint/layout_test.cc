#include "src/checkpoint/layout.h"

#include <gtest/gtest.h>

namespace octet {
namespace {

TEST(Layout, Names) {
  for (const std::string& name : layout_names()) EXPECT_EQ(layout_name(*parse_layout(name)), name);
  EXPECT_FALSE(parse_layout("awq"));
  EXPECT_EQ(weights_stem(Layout::kOctet, "W8A8_DYNAMIC"), "quant_model_weight_w8a8_dynamic");
  EXPECT_EQ(weights_stem(Layout::kMsmodelslimV1, "W8A8"), "quant_model_weights");
  EXPECT_EQ(description_name(Layout::kMindie, "W8A8"), "quant_model_description_w8a8.json");
  EXPECT_EQ(description_name(Layout::kMsmodelslimV1, "W8A8"), "quant_model_description.json");
}

TEST(Layout, Descriptions) {
  const TensorTypes types = {{"a.weight", "W8A8"}, {"b.weight", "FLOAT"}};
  EXPECT_EQ(make_description(Layout::kOctet, "W8A8", true, types).dump(),
            R"({"version":"1.0.0","model_quant_type":"W8A8","kv_cache_type":"C8",)"
            R"("kv_quant_type":"C8","a.weight":"W8A8","b.weight":"FLOAT"})");
  EXPECT_EQ(make_description(Layout::kMindie, "W8A8", false, types).dump(),
            R"({"model_quant_type":"W8A8","a.weight":"W8A8","b.weight":"FLOAT"})");
  EXPECT_EQ(make_description(Layout::kMsmodelslimV1, "W8A8", false, types).dump(),
            R"({"a.weight":"W8A8","b.weight":"FLOAT","version":"1.0.0","model_quant_type":"W8A8",)"
            R"("metadata":{},"group_size":0,"optional":{}})");
}

}  // namespace
}  // namespace octet
