#include "src/model/logits.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>
#include <vector>

namespace octet {
namespace {

TEST(Logits, AreFiniteUnlessOneIsNot) {
  const float largest = std::numeric_limits<float>::max();
  std::vector<float> logits(37, -largest);
  logits[5] = largest;
  logits[6] = std::numeric_limits<float>::denorm_min();
  EXPECT_TRUE(all_finite(logits));
  EXPECT_TRUE(all_finite({}));
  for (const float broken : {NAN, -NAN, INFINITY, -INFINITY})
    for (const size_t at : {0, 20, 36}) {
      std::vector<float> one = logits;
      one[at] = broken;
      EXPECT_FALSE(all_finite(one)) << broken << " at " << at;
    }
}

TEST(Logits, AreReportedWithAWayOut) {
  const ModelFolder folder(fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16");
  EXPECT_THAT(broken_logits(folder).what(), ::testing::HasSubstr("octet check"));
}

}  // namespace
}  // namespace octet
